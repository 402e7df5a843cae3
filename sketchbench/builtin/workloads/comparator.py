"""The comparator of online learning: the best fixed point in hindsight, to a certified gap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sketchbench import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Vector = NDArray[np.float64]

GAP = 1e-7  # a round, in the task's unit: where the search ends
BEYOND = 2.0  # times the norm of what is found: to where the gap reaches, unconstrained
POLISHED = 256  # entries of X up to which a Hessian is formed
TRIALS = 60  # values of the multiplier
SEARCH = {"maxiter": 5000, "maxfun": 20000, "maxcor": 30, "ftol": 1e-15, "gtol": 1e-10}
FARTHEST = 1e8  # where an unconstrained search gives up: linear losses have no minimum
FAR = {"ftol": 0.0, "gtol": 1e-12}  # unconstrained, the minimum may be far away and its loss flat


class Rounds:
    """The rounds of one game: losses of ⟨z, X⟩, or of Xᵀz where the task has several outputs.

    In float64; inputs z (T, ...) and targets (T, ...) on one device.
    """

    def __init__(self, task: Task, inputs: Tensor, targets: Tensor) -> None:
        outputs = task.shapes.outputs
        self.task = task
        self.shape = tuple(inputs.shape[1:])
        if outputs > 1:
            self.shape = (inputs[0].numel(), outputs)
        self.inputs = inputs.double()
        self.targets = targets.double() if targets.is_floating_point() else targets
        self._columns = outputs

    def __len__(self) -> int:
        return len(self.inputs)

    def outputs(self, point: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Return the outputs (n, c) at X of all rounds, or of other inputs (n, ...)."""
        inputs = self.inputs if inputs is None else inputs.double()
        return inputs.flatten(1) @ point.reshape(-1, self._columns)

    def loss(self, point: Tensor, rounds: int | None = None) -> Tensor:
        """Return the sum of the losses of a fixed X in the first `rounds`, or in all."""
        count = len(self) if rounds is None else rounds
        outputs = self.outputs(point, self.inputs[:count])
        return self.task.loss(outputs, self.targets[:count]) * count


@dataclass(frozen=True)
class Fixed:
    """A fixed point X whose loss over all rounds is within `gap` of the least.

    Of all points of norm at most `within`: the ball's radius, or twice X's norm.
    """

    point: Tensor
    gap: float
    within: float


def best_fixed(rounds: Rounds, radius: float | None) -> Fixed:
    """Return the best fixed point, of the ball ‖X‖ ≤ radius where there is one.

    In the ball it is the minimum of f + μ‖X‖²/2, with μ such that it is on the sphere, or 0; L-BFGS
    finds each. The gap is Frank and Wolfe's: max_{‖V‖ ≤ r} ⟨∇f, X − V⟩ = ⟨∇f, X⟩ + r‖∇f‖.
    """
    found = _minimum(rounds, 0.0, np.zeros(np.prod(rounds.shape, dtype=int)), radius)
    if radius is None:
        found = _polished(rounds, found)
    if radius is None or np.linalg.norm(found) <= radius:
        within = radius or BEYOND * max(1.0, float(np.linalg.norm(found)))
        return _fixed(rounds, found, within)
    found *= 0
    least, most = 0.0, float(np.linalg.norm(_mean(rounds, found)[1])) / radius
    mu, before = most, None
    best = _fixed(rounds, found, radius)
    for _ in range(TRIALS):
        found = _minimum(rounds, mu, found, None)
        norm = float(np.linalg.norm(found))
        trial = _fixed(rounds, found * min(1.0, radius / norm), radius)
        best = min(best, trial, key=lambda fixed: fixed.gap)
        if best.gap <= GAP * len(rounds):
            break
        least, most = (mu, most) if norm > radius else (least, mu)
        guess = mu * norm / radius  # exact for linear losses
        if before is not None and before[1] != norm:  # 1/‖X‖ is nearly linear in μ [Hebden 1973]
            slope = (1 / norm - 1 / before[1]) / (mu - before[0]) if mu != before[0] else 0.0
            guess = mu + (1 / radius - 1 / norm) / slope if slope > 0 else guess
        before = (mu, norm)
        mu = guess if least < guess < most else (least * most) ** 0.5 or most / 100
    return best


def _minimum(rounds: Rounds, mu: float, start: Vector, radius: float | None) -> Vector:
    """Return the minimum of the mean loss + μ‖X‖²/2, or a point beyond twice the radius."""
    from scipy.optimize import minimize

    def value(x: Vector) -> tuple[float, Vector]:
        loss, slope = _mean(rounds, x)
        return loss + mu / 2 * float(x @ x), slope + mu * x

    def far(x: Vector) -> None:
        if np.linalg.norm(x) > (FARTHEST if radius is None else 2 * radius):
            raise StopIteration

    options = SEARCH | (FAR if radius is None and mu == 0 else {})
    done: Any = minimize(value, start, jac=True, method="L-BFGS-B", callback=far, options=options)
    found: Vector = done.x
    return found


def _polished(rounds: Rounds, found: Vector) -> Vector:
    """Return the minimum x (d,) after a step of Newton's, where that has the smaller slope.

    Values of the loss don't tell points apart whose slope is 1e-8; far away that is a wide gap.
    """
    slope = _mean(rounds, found)[1]
    if len(found) > POLISHED or not np.isfinite(slope).all():
        return found
    point = torch.from_numpy(found.copy()).to(rounds.inputs.device)

    def mean(x: Tensor) -> Tensor:
        return rounds.loss(x.reshape(rounds.shape)) / len(rounds)

    curvature = torch.autograd.functional.hessian(mean, point).cpu().numpy()
    step = np.linalg.lstsq(curvature, slope, rcond=None)[0]
    moved: Vector = found - step
    before, after = (np.linalg.norm(s) for s in (slope, _mean(rounds, moved)[1]))
    return moved if after < before else found


def _fixed(rounds: Rounds, found: Vector, within: float) -> Fixed:
    slope = _mean(rounds, found)[1]
    gap = float(slope @ found) + within * float(np.linalg.norm(slope))
    point = torch.from_numpy(found.copy()).reshape(rounds.shape).to(rounds.inputs.device)
    return Fixed(point, gap * len(rounds), within)


def _mean(rounds: Rounds, x: Vector) -> tuple[float, Vector]:
    """Return the mean loss and its gradient at x (d,)."""
    point = torch.from_numpy(x).reshape(rounds.shape).to(rounds.inputs.device)
    with torch.enable_grad():
        point = point.requires_grad_()
        loss = rounds.loss(point) / len(rounds)
        (slope,) = torch.autograd.grad(loss, point)
    return loss.item(), slope.flatten().cpu().numpy()
