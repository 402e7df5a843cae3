"""Ada-FD: AdaGrad on a sketch, with a fixed multiple of I. [Wan, Wei and Zhang 2018]"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sketchbench import Field
from sketchbench_frequent_directions.online.sketched import SketchedOptimizer, SketchedRecipe


class AdaFD(SketchedRecipe):
    """AdaGrad on a sketch Ḡ and nothing of what escaped it: H = Ḡ^½ + δI. [Wan et al. 2018]"""

    name = "ada-fd"
    delta: float = Field(1.0, gt=0, description="δ, added to the root.")

    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return _AdaFD(
            params,
            lr=self.lr,
            radius=self.radius,
            delta=self.delta,
            rank=self.rank,
            solver=self.solver,
        )


class _AdaFD(SketchedOptimizer):
    def spectrum(
        self, roots: Tensor, tail: Tensor, group: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor]:
        return roots + group["delta"], torch.full_like(tail, group["delta"])
