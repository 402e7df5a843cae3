"""Dense random projections of gradients: the sketches with the least structure."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from sketchbench import Field, GradientSketch, Guarantee, LinearSketch
from sketchbench.linalg import RandomMatrix, seed_of

OUT_SIZE = "D, length of the sketch."
CHUNK = "Entries of S held at a time; changes memory and speed, not S."


class Gaussian(GradientSketch):
    """Independent N(0, 1/D) entries, drawn anew for each product. [Johnson & Lindenstrauss 1984]

    O(N·D) time, O(chunk) memory.
    """

    name = "gaussian"
    out_size: int = Field(256, ge=1, description=OUT_SIZE)
    chunk: int = Field(2**20, ge=1, description=CHUNK)

    def build(self, size: int, rng: Generator, device: torch.device) -> LinearSketch:
        """Draw the seed of S (D, size); S itself is never held."""
        return RandomMatrix((self.out_size, size), seed_of(rng), _normal, device, self.chunk)

    def guarantee(self, size: int) -> Guarantee:
        """Return κ = 1: D·‖Sx‖² of a unit vector x is χ² with D degrees of freedom."""
        return Guarantee(kappa=1.0)

    def state_bytes(self, size: int) -> int:
        """Return 0: S is a seed."""
        return 0


class Rademacher(GradientSketch):
    """Independent ±1/√D entries, drawn anew for each product. [Achlioptas 2003]

    O(N·D) time, O(chunk) memory.
    """

    name = "rademacher"
    out_size: int = Field(256, ge=1, description=OUT_SIZE)
    chunk: int = Field(2**20, ge=1, description=CHUNK)

    def build(self, size: int, rng: Generator, device: torch.device) -> LinearSketch:
        """Draw the seed of S (D, size); S itself is never held."""
        return RandomMatrix((self.out_size, size), seed_of(rng), _signs, device, self.chunk)

    def guarantee(self, size: int) -> Guarantee:
        """Promise κ ≤ 1: D·Var‖Sx‖²/2 = 1 − ‖x‖₄⁴ for a unit vector x."""
        return Guarantee(kappa=1.0)

    def state_bytes(self, size: int) -> int:
        """Return 0: S is a seed."""
        return 0


def _normal(tile: Tensor, generator: Generator) -> Tensor:
    return tile.normal_(generator=generator)


def _signs(tile: Tensor, generator: Generator) -> Tensor:
    return tile.random_(0, 2, generator=generator).mul_(2).sub_(1)
