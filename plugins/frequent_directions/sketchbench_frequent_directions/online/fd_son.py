"""Sketched online Newton steps: FD-SON [Luo et al. 2016], RFD-SON [Luo et al. 2019]."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sketchbench import Field
from sketchbench_frequent_directions.online.sketched import SketchedOptimizer, SketchedRecipe


class FDSON(SketchedRecipe):
    """Online Newton on a sketch: x −= (δI + S̄/η)⁺g, where S = Σ ggᵀ/√t. [Luo et al. 2016]

    Differs from the code of the paper on Sketchy: η divides the sketch where it is used and not as
    it is filled, so that a schedule may change it; at a constant η both are the same.
    """

    name = "fd-son"
    delta: float = Field(1.0, gt=0, description="δ, added to the sketch.")

    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return _FDSON(
            params,
            lr=self.lr,
            radius=self.radius,
            delta=self.delta,
            rank=self.rank,
            solver=self.solver,
        )


class _FDSON(SketchedOptimizer):
    def scale(self, step: int) -> float:
        return float(step**-0.25)

    def spectrum(
        self, roots: Tensor, tail: Tensor, group: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor]:
        ridge = group["lr"] * group["delta"]
        return roots.square() + ridge, torch.full_like(tail, ridge)


class RFDSON(SketchedRecipe):
    """Online Newton on a robust sketch: x −= η(S̄ + αI)⁺g, where S = Σ ggᵀ/t. [Luo et al. 2019]

    α is half the mass that escaped the sketch, and there is no δ (RFD₀): until the sketch is full
    H⁺ is of Moore and Penrose, and a step along a new direction is as large as η/‖g‖·t.
    """

    name = "rfd-son"

    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return _RFDSON(params, lr=self.lr, radius=self.radius, rank=self.rank, solver=self.solver)


class _RFDSON(SketchedOptimizer):
    def scale(self, step: int) -> float:
        return float(step**-0.5)

    def spectrum(
        self, roots: Tensor, tail: Tensor, group: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor]:
        return roots.square() + tail / 2, tail / 2
