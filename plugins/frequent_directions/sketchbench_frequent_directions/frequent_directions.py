"""Frequent Directions as a covariance sketch. [Ghashami et al. 2016; Feinberg et al. 2023, §3]"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sketchbench import CovarianceEstimate, CovarianceSketch, Field
from sketchbench_frequent_directions.powers import power
from sketchbench_frequent_directions.sketch import absorb, empty
from sketchbench_frequent_directions.solvers.svd import svd


class FrequentDirections(CovarianceSketch):
    """Keep k directions of C, deflated, and the mass that escaped them on the diagonal."""

    name = "frequent-directions"
    rank: int = Field(64, ge=1, description="k, directions kept; ℓ = k + 1 in the paper.")
    beta2: float = Field(1.0, gt=0, le=1, description="β₂: an update makes of C β₂C + Σaaᵀ.")
    tail_decay: Literal["paper", "tearfree"] = Field(
        "paper", description="Decay of the escaped mass: β₂, or √β₂ as in the authors' code."
    )

    @property
    def decay(self) -> float:
        """β₂."""
        return self.beta2

    @property
    def sandwich(self) -> bool:
        """Exact to rounding."""
        return True

    def build(self, size: int, device: torch.device) -> CovarianceEstimate:
        """Start from C = 0, in torch's default precision."""
        return _Estimate(self, size, device)


class _Estimate:
    def __init__(self, recipe: FrequentDirections, size: int, device: torch.device) -> None:
        self._recipe = recipe
        self._sketch = empty(size, recipe.rank, device=device)

    @property
    def tail(self) -> Tensor:
        return self._sketch.tail

    def update(self, rows: Tensor) -> None:
        recipe = self._recipe
        tail_decay = recipe.beta2 if recipe.tail_decay == "paper" else recipe.beta2**0.5
        self._sketch = absorb(
            self._sketch,
            rows.mT.to(self._sketch.vectors.dtype),
            beta2=recipe.beta2,
            tail_decay=tail_decay,
            solver=svd,
        )

    def dense(self) -> Tensor:
        scaled = self._sketch.vectors * self._sketch.roots
        return scaled @ scaled.mT + self.tail * torch.eye(len(scaled), device=scaled.device)

    def power(self, x: Tensor, exponent: float, ridge: float) -> Tensor:
        return power(self._sketch, x, exponent, ridge)
