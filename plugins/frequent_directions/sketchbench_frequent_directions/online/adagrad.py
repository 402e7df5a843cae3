"""AdaGrad with a full matrix, and with its diagonal. [Duchi, Hazan and Singer 2011]"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sketchbench import Field
from sketchbench_frequent_directions.online.preconditioner import Preconditioner, seen
from sketchbench_frequent_directions.online.vectors import OnlineOptimizer, OnlineRecipe, weight


class AdagradFull(OnlineRecipe):
    """AdaGrad with a full matrix: H = (Σ ggᵀ + δI)^½, an eigendecomposition (d, d) a step.

    Eigenvalues up to d·ε of the largest are 0, and H⁺ is of Moore and Penrose.
    """

    name = "adagrad-full"
    delta: float = Field(0.0, ge=0, description="δ: the sum begins at δI.")

    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer; it keeps d² numbers of a parameter with d entries."""
        return _AdagradFull(params, lr=self.lr, radius=self.radius, delta=self.delta)

    def kept(self, size: int) -> Mapping[str, int]:
        """The sum, d²."""
        return {"second_moment": size * size}


class _AdagradFull(OnlineOptimizer):
    state_parts: Mapping[str, str] = {"sum": "second_moment"}

    def begin(self, like: Tensor, group: Mapping[str, Any]) -> dict[str, Tensor]:
        return {"sum": like.new_zeros(len(like), len(like))}  # Σ ggᵀ (d, d)

    def advance(
        self, state: dict[str, Tensor], gradient: Tensor, step: int, group: Mapping[str, Any]
    ) -> Preconditioner:
        state["sum"].addr_(gradient, gradient)
        values, vectors = torch.linalg.eigh(state["sum"])
        values = seen(values, len(values))
        return Preconditioner(vectors, (values + group["delta"]).sqrt())

    def guarantee(self, moment: Tensor, diameter: float) -> float:
        """Return (D²/2η + η)·(tr G^½ + d√δ): the regret within a set of diameter D isn't above it.

        `moment` (d, d) is G = Σ ggᵀ over all rounds. [Duchi et al. 2011, Thm 7, their constants]
        """
        group = self.param_groups[0]
        trace = float(torch.linalg.eigvalsh(moment).clamp_min(0).sqrt().sum())
        ridge = len(moment) * math.sqrt(group["delta"])
        return weight(diameter, group["lr"]) * (trace + ridge)


class AdagradDiagonal(OnlineRecipe):
    """AdaGrad with a diagonal: H = diag(Σ g² + δ)^½; torch's own with a ball and no ε."""

    name = "adagrad-diagonal"
    delta: float = Field(0.0, ge=0, description="δ: the sums begin at δ.")

    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer; it keeps a copy of each parameter."""
        return _AdagradDiagonal(params, lr=self.lr, radius=self.radius, delta=self.delta)

    def kept(self, size: int) -> Mapping[str, int]:
        """The sums, d."""
        return {"second_moment": size}


class _AdagradDiagonal(OnlineOptimizer):
    state_parts: Mapping[str, str] = {"sum": "second_moment"}

    def begin(self, like: Tensor, group: Mapping[str, Any]) -> dict[str, Tensor]:
        return {"sum": torch.zeros_like(like)}  # Σ g² (d,)

    def advance(
        self, state: dict[str, Tensor], gradient: Tensor, step: int, group: Mapping[str, Any]
    ) -> Preconditioner:
        state["sum"].addcmul_(gradient, gradient)
        return Preconditioner(None, (state["sum"] + group["delta"]).sqrt())

    def guarantee(self, moment: Tensor, diameter: float) -> float:
        """Return (D²/2η + η)·Σ (G_ii + δ)^½: the regret within a set of diameter D isn't above it.

        `moment` (d, d) is G = Σ ggᵀ over all rounds. [Duchi et al. 2011, Thm 5, for ‖·‖₂ ≤ D]
        """
        group = self.param_groups[0]
        trace = float((moment.diagonal() + group["delta"]).sqrt().sum())
        return weight(diameter, group["lr"]) * trace
