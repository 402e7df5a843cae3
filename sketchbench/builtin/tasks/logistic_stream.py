"""A logistic stream whose inputs have a planted spectrum, rotated or not; synthetic."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import model_validator

from sketchbench import Field, Shapes, Split, Task

if TYPE_CHECKING:
    from torch import Tensor

SEEDS = {"train": 0, "test": 1, "world": 2}


class LogisticStream(Task):
    """Gaussian inputs of a planted covariance, E‖z‖² = 1, labels of a linear teacher. Synthetic.

    z = Q·diag(√λ)·u with u standard normal, λᵢ ∝ i^(−exponent) for i ≤ rank and `noise` of λ₁
    beyond. Q is a random rotation, or the identity. Labels are drawn with log-odds
    margin·⟨u, v⟩/‖v‖, v ones along the first `rank` directions: the weak ones matter as much as the
    strong. Rotated, the diagonal of Σ ggᵀ says nothing of its low rank: AdaGrad's bound then has
    Σᵢ G_ii^½, about √(d·tr G), in place of tr G^½ ≤ √(rank·tr G) [Duchi et al. 2011, §1.3].
    """

    name = "logistic-stream"
    width: int = Field(64, ge=1, description="Entries of an input.")
    rank: int = Field(8, ge=1, description="Strong directions.")
    exponent: float = Field(0.0, ge=0, description="Decay of λ along them.")
    noise: float = Field(0.0, ge=0, le=1, description="λ beyond, as a fraction of λ₁.")
    rotated: bool = Field(True, description="Rotate the directions away from the axes.")
    margin: float = Field(3.0, ge=0, description="Standard deviation of the log-odds.")
    examples: int = Field(10_000, ge=1, description="Examples to play.")
    test_examples: int = Field(2_000, ge=1, description="Examples to evaluate.")

    @property
    def shapes(self) -> Shapes:
        """An input (width,), and one output."""
        return Shapes((self.width,), 1)

    def load(self, split: Literal["train", "test"]) -> Split:
        """Draw one split; the rotation doesn't depend on which."""
        rng = torch.Generator().manual_seed(SEEDS[split])
        world = torch.Generator().manual_seed(SEEDS["world"])
        count = self._count(split)
        drawn = torch.randn(count, self.width, generator=rng, dtype=torch.double)
        odds = self.margin * drawn[:, : self.rank].sum(1) / math.sqrt(self.rank)
        labels = torch.rand(count, generator=rng, dtype=torch.double) < odds.sigmoid()
        inputs = drawn * self.spectrum().sqrt()
        if self.rotated:
            noise = torch.randn(self.width, self.width, generator=world, dtype=torch.double)
            inputs = inputs @ torch.linalg.qr(noise)[0].mT
        return Split(inputs.float(), labels.long())

    def spectrum(self) -> Tensor:
        """Return λ (width,), which sum to 1, in double precision."""
        index = torch.arange(1, self.width + 1, dtype=torch.double)
        values = torch.where(index <= self.rank, index.pow(-self.exponent), self.noise)
        return values / values.sum()

    def blank(self, split: Literal["train", "test"]) -> Split:
        """Return a split of zeros of class 0."""
        count = self._count(split)
        return Split(torch.zeros(count, self.width), torch.zeros(count, dtype=torch.int64))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean logistic loss of outputs (n, 1)."""
        return F.binary_cross_entropy_with_logits(outputs.squeeze(-1), targets.to(outputs))

    def _count(self, split: Literal["train", "test"]) -> int:
        return self.examples if split == "train" else self.test_examples

    @model_validator(mode="after")
    def _rank_fits(self) -> Self:
        if self.rank > self.width:
            raise ValueError(f"logistic-stream: rank {self.rank} is more than width {self.width}")
        return self
