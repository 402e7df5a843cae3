"""Online gradient descent: H is √(t + δ)·I. [Zinkevich 2003]"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sketchbench import Field
from sketchbench_frequent_directions.online.preconditioner import Preconditioner
from sketchbench_frequent_directions.online.vectors import OnlineOptimizer, OnlineRecipe


class OGD(OnlineRecipe):
    """Online gradient descent at the rate η/√(t + δ), t from 1. [Zinkevich 2003]"""

    name = "ogd"
    delta: float = Field(0.0, ge=0, description="δ, added to the step's number t.")

    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer; it keeps its step counters alone."""
        return _OGD(params, lr=self.lr, radius=self.radius, delta=self.delta)

    def kept(self, size: int) -> Mapping[str, int]:
        """Nothing."""
        return {}


class _OGD(OnlineOptimizer):
    def begin(self, like: Tensor, group: Mapping[str, Any]) -> dict[str, Tensor]:
        return {}

    def advance(
        self, state: dict[str, Tensor], gradient: Tensor, step: int, group: Mapping[str, Any]
    ) -> Preconditioner:
        root = math.sqrt(step + group["delta"])
        return Preconditioner(None, gradient.new_full((1,), root).expand_as(gradient))
