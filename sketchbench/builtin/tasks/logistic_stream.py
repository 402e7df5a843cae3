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

SEEDS = {"train": 0, "test": 1}
WORLD = 2  # seed of the first world's rotation
WORLDS = 3  # seeds from one world to the next


class LogisticStream(Task):
    """Gaussian inputs of a planted covariance, E‖z‖² = 1, labels of a linear teacher. Synthetic.

    z = Q·diag(√λ)·u with u standard normal, λᵢ ∝ i^(−exponent) for i ≤ rank and `noise` of λ₁
    beyond. Q is a random rotation, or the identity. Rotated, the diagonal of Σ ggᵀ says nothing of
    its low rank: AdaGrad's bound then has Σᵢ G_ii^½, about √(d·tr G), in place of
    tr G^½ ≤ √(rank·tr G) [Duchi et al. 2011, §1.3]. In float64, for directions without variance to
    be empty. Labels are drawn with log-odds of one of two teachers, v ones along the first `rank`
    directions:

        whitened   margin·⟨u, v⟩/‖v‖: weak directions matter as much as strong ones, so that the
                   best point is the farther away the weaker they are
        plain      margin·⟨z, Qv⟩: of norm margin·√rank whatever the spectrum; the log-odds have
                   margin times the root of the first directions' share in E‖z‖²

    The seed of a run draws the order and choice of examples; they, Q and the labels are drawn by
    `world` alone.
    """

    name = "logistic-stream"
    width: int = Field(64, ge=1, description="Entries of an input.")
    rank: int = Field(8, ge=1, description="Strong directions.")
    exponent: float = Field(0.0, ge=0, description="Decay of λ along them.")
    noise: float = Field(0.0, ge=0, le=1, description="λ beyond, as a fraction of λ₁.")
    rotated: bool = Field(True, description="Rotate the directions away from the axes.")
    teacher: Literal["whitened", "plain"] = Field(
        "whitened", description="Log-odds of the labels: linear in u, or in z with a fixed norm."
    )
    margin: float = Field(
        3.0, ge=0, description="Standard deviation of the log-odds; of `plain`, at noise 0."
    )
    world: int = Field(0, ge=0, description="Seed of the rotation and of the examples.")
    examples: int = Field(10_000, ge=1, description="Examples to play.")
    test_examples: int = Field(2_000, ge=1, description="Examples to evaluate.")

    @property
    def shapes(self) -> Shapes:
        """An input (width,), and one output."""
        return Shapes((self.width,), 1)

    def load(self, split: Literal["train", "test"]) -> Split:
        """Draw one split; the rotation doesn't depend on which."""
        rng = torch.Generator().manual_seed(WORLDS * self.world + SEEDS[split])
        world = torch.Generator().manual_seed(WORLDS * self.world + WORLD)
        count = self._count(split)
        drawn = torch.randn(count, self.width, generator=rng, dtype=torch.double)
        inputs = drawn * self.spectrum().sqrt()
        if self.teacher == "whitened":
            odds = self.margin * drawn[:, : self.rank].sum(1) / math.sqrt(self.rank)
        else:
            odds = self.margin * inputs[:, : self.rank].sum(1)
        labels = torch.rand(count, generator=rng, dtype=torch.double) < odds.sigmoid()
        if self.rotated:
            noise = torch.randn(self.width, self.width, generator=world, dtype=torch.double)
            inputs = inputs @ torch.linalg.qr(noise)[0].mT
        return Split(inputs, labels.long())

    def spectrum(self) -> Tensor:
        """Return λ (width,), which sum to 1, in double precision."""
        index = torch.arange(1, self.width + 1, dtype=torch.double)
        values = torch.where(index <= self.rank, index.pow(-self.exponent), self.noise)
        return values / values.sum()

    def blank(self, split: Literal["train", "test"]) -> Split:
        """Return a split of zeros of class 0."""
        count = self._count(split)
        inputs = torch.zeros(count, self.width, dtype=torch.double)
        return Split(inputs, torch.zeros(count, dtype=torch.int64))

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
