"""Synthetic classification whose inputs have a rank that is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F

from sketchbench import Field, Shapes, Split, Task

if TYPE_CHECKING:
    from torch import Generator, Tensor

SEEDS = {"train": 0, "test": 1, "world": 2}


class SyntheticPlanted(Task):
    """Gaussian inputs of a planted rank, labelled by a fixed random network; synthetic.

    x = (Vg + noise·e) / √(1 + noise²), with g (rank,) and e (width,) standard normal, and V
    (width, rank) Gaussian with E‖Vg‖² = width; without a rank, x itself is standard normal, so
    its covariance is the identity. The class is the largest output of a tanh network
    width-`teacher`-classes with Gaussian weights of unit gain; classes aren't balanced, and where
    the rank is small some may not occur. V and the teacher don't depend on the split.
    """

    name = "synthetic-planted"
    width: int = Field(256, ge=1, description="Entries of an input.")
    rank: int | None = Field(
        8, ge=1, description="Rank of the inputs without noise; null: whitened, of full rank."
    )
    noise: float = Field(0.0, ge=0, description="Standard deviation of the noise beside them.")
    classes: int = Field(10, ge=2, description="Classes.")
    teacher: int = Field(64, ge=1, description="Hidden width of the network that labels.")
    examples: int = Field(4096, ge=1, description="Examples to train on.")
    test_examples: int = Field(1024, ge=1, description="Examples to evaluate.")

    @property
    def shapes(self) -> Shapes:
        """An input (width,), and an output a class."""
        return Shapes((self.width,), self.classes)

    def load(self, split: Literal["train", "test"]) -> Split:
        """Draw one split."""
        rng = torch.Generator().manual_seed(SEEDS[split])
        world = torch.Generator().manual_seed(SEEDS["world"])
        hidden = _normal(self.width, self.teacher, rng=world) / self.width**0.5
        out = _normal(self.teacher, self.classes, rng=world)
        inputs = self._inputs(self._count(split), rng, world)
        return Split(inputs.float(), ((inputs @ hidden).tanh() @ out).argmax(1))

    def blank(self, split: Literal["train", "test"]) -> Split:
        """Return a split of zeros of one class."""
        count = self._count(split)
        return Split(torch.zeros(count, self.width), torch.zeros(count, dtype=torch.int64))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy."""
        return F.cross_entropy(outputs, targets)

    def _count(self, split: Literal["train", "test"]) -> int:
        return self.examples if split == "train" else self.test_examples

    def _inputs(self, count: int, rng: Generator, world: Generator) -> Tensor:
        """Return inputs (count, width) in double precision."""
        if self.rank is None:
            return _normal(count, self.width, rng=rng)
        basis = _normal(self.rank, self.width, rng=world) / self.rank**0.5
        signal = _normal(count, self.rank, rng=rng) @ basis
        noise = self.noise * _normal(count, self.width, rng=rng)
        inputs: Tensor = (signal + noise) / math.hypot(1, self.noise)
        return inputs


def _normal(*shape: int, rng: Generator) -> Tensor:
    drawn: Tensor = torch.randn(*shape, generator=rng, dtype=torch.float64)
    return drawn
