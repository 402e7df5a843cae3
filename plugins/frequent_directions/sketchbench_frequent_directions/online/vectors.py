"""The skeleton of an online method: each parameter is one vector, moved by its own H."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sketchbench import Field, Optimizer
from sketchbench_frequent_directions.online.preconditioner import Preconditioner

LR = "η, step size; schedules multiply it."
RADIUS = "Points stay in the ball ‖x‖ ≤ radius, by projection in the norm of H; null is Rᵈ."


class OnlineRecipe(Optimizer):
    """What every online method has; subclasses `build` and say what state they keep."""

    lr: float = Field(0.1, ge=0, description=LR)
    radius: float | None = Field(None, gt=0, description=RADIUS)

    def state_bytes(self, params: Sequence[nn.Parameter]) -> Mapping[str, int]:
        """Return the bytes of each part, and of the step counters, which are on the CPU."""
        taught = [p for p in params if p.requires_grad]
        parts: dict[str, int] = {}
        for p in taught:
            for part, count in self.kept(p.numel()).items():
                parts[part] = parts.get(part, 0) + count * p.element_size()
        size = 8 if torch.get_default_dtype() == torch.float64 else 4
        return parts | {"rest": size * sum(p.device.type == "cpu" for p in taught)}

    @abstractmethod
    def kept(self, size: int) -> Mapping[str, int]:
        """Return the numbers kept of a parameter of `size` entries, by part."""


def weight(diameter: float, rate: float) -> float:
    """Return D²/2η + η, by which AdaGrad's regret exceeds tr H_T at most; √2·D at η = D/√2."""
    return diameter**2 / (2 * rate) + rate if rate else math.inf


class OnlineOptimizer(torch.optim.Optimizer):
    """x ← Π_H(x − η·H⁺g) a parameter, flattened to x (d,); subclasses say what H is.

    Group keys: `lr`; `radius` of the ball onto which Π projects, or None; and the method's own.
    """

    state_parts: Mapping[str, str] = {}

    def __init__(
        self, params: Iterable[nn.Parameter], *, lr: float, radius: float | None, **rest: Any
    ) -> None:
        super().__init__(params, {"lr": lr, "radius": radius, **rest})

    @abstractmethod
    def begin(self, like: Tensor, group: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the state of a vector like `like` (d,) before its first gradient."""

    @abstractmethod
    def advance(
        self, state: dict[str, Tensor], gradient: Tensor, step: int, group: Mapping[str, Any]
    ) -> Preconditioner:
        """Take in the gradient (d,) of `step`, from 1, and return H."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; raise `FloatingPointError` for a gradient without a finite norm."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, group)
        return loss

    def _move(self, p: nn.Parameter, group: Mapping[str, Any]) -> None:
        gradient = p.grad.reshape(-1)  # type: ignore[union-attr]
        if not gradient.norm().isfinite():
            finite = bool(gradient.isfinite().all())
            what = "is too large: the sum of its squares overflows" if finite else "isn't finite"
            raise FloatingPointError(
                f"{type(self).__name__}: the gradient of a parameter {tuple(p.shape)} {what}; "
                "its state is as it was"
            )
        state = self.state[p]
        if not state:
            state.update(step=torch.tensor(0.0), **self.begin(gradient, group))
        state["step"] += 1
        metric = self.advance(state, gradient, int(state["step"]), group)
        point = p.reshape(-1).sub(metric.solve(gradient), alpha=group["lr"])
        if group["radius"] is not None:
            point = metric.project(point, group["radius"])
        p.copy_(point.view_as(p))
