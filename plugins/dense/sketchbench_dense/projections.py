"""Dense random projections of gradients: the sketches with the least structure."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from sketchbench import Field, GradientSketch, LinearSketch
from sketchbench.linalg import RandomMatrix

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
        return RandomMatrix((self.out_size, size), _seed(rng), _normal, device, self.chunk)


class Rademacher(GradientSketch):
    """Independent ±1/√D entries, drawn anew for each product. [Achlioptas 2003]

    O(N·D) time, O(chunk) memory.
    """

    name = "rademacher"
    out_size: int = Field(256, ge=1, description=OUT_SIZE)
    chunk: int = Field(2**20, ge=1, description=CHUNK)

    def build(self, size: int, rng: Generator, device: torch.device) -> LinearSketch:
        """Draw the seed of S (D, size); S itself is never held."""
        return RandomMatrix((self.out_size, size), _seed(rng), _signs, device, self.chunk)


def _normal(tile: Tensor, generator: Generator) -> Tensor:
    return tile.normal_(generator=generator)


def _signs(tile: Tensor, generator: Generator) -> Tensor:
    return tile.random_(0, 2, generator=generator).mul_(2).sub_(1)


def _seed(rng: Generator) -> int:
    return int(torch.randint(2**63 - 1, (), generator=rng))
