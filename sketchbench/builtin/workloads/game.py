"""One game of online learning: T rounds with one method at one rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import nn

from sketchbench import Optimizer, Run, Task
from sketchbench.builtin.workloads.comparator import Rounds

if TYPE_CHECKING:
    from torch import Tensor

CHUNK = 256  # gradients that are added to their second moment at once
LARGEST = 2048  # entries of X up to which that (d, d) is kept
# What optimizers raise of gradients that diverge.
BROKEN = (FloatingPointError, torch.linalg.LinAlgError)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Game:
    """What happened: losses (T,) and mistakes (T,) of the rounds, each before its update.

    Losses from round `ended` on, counted from 1, are infinite; None in a game that came to its
    end. `average` is the mean of the X that were played, `bound` what the method says of its
    regret, where it was asked and says anything.
    """

    rate: float
    losses: Tensor
    mistakes: Tensor | None
    average: Tensor
    bound: float | None
    ended: int | None

    def loss(self, rounds: int | None = None) -> float:
        """Return the sum of the losses of the first `rounds`, or of all."""
        return math.inf if self.ended else self.losses[:rounds].sum().item()

    def wrong(self, rounds: int) -> int | None:
        """Return the number of mistakes in the first `rounds`."""
        return None if self.mistakes is None else int(self.mistakes[:rounds].sum())

    def without_points(self) -> Game:
        """Return the game without what is large: all but its losses."""
        return replace(self, average=self.average.new_zeros(()))


def play(
    run: Run,
    rounds: Rounds,
    optimizer: Optimizer,
    rate: float | None,
    radius: float | None,
    diameter: float | None = None,
) -> Game:
    """Play all rounds from X = 0; None for a rate is the optimizer's own.

    With a diameter, ask for the method's bound within sets of it: `guarantee(G, diameter)` of its
    optimizer, G = Σ vec(g)vec(g)ᵀ.
    """
    point = nn.Parameter(rounds.inputs.new_zeros(rounds.shape))
    player = optimizer.build([point])
    projects = True
    for group in player.param_groups:
        if rate is not None:
            group["lr"] = rate
        if radius is not None and "radius" in group:
            group["radius"] = radius
        projects = projects and "radius" in group
    ball = None if projects else radius
    run.watch(model=nn.ParameterList([point]), optimizer=player)
    guarantee = getattr(player, "guarantee", None) if diameter is not None else None
    moment = _Moment(point) if guarantee is not None and point.numel() <= LARGEST else None
    losses, mistakes = [], []
    average = torch.zeros_like(point.data)
    ended = None
    for number, (z, wanted) in enumerate(
        zip(rounds.inputs.unbind(), rounds.targets.split(1), strict=True), 1
    ):
        average.lerp_(point.data, 1 / number)
        try:
            with run.region("step"):
                output = _output(point.data, z)
                loss, slope = _slope(rounds.task, output, wanted)
                if math.isfinite(loss):
                    point.grad = _gradient(point, z, slope)
                    player.step()
                    if ball is not None:
                        _project(point.data, ball)
        except BROKEN:
            loss = math.nan
        if not math.isfinite(loss):
            ended = number
            break
        losses.append(loss)
        mistakes.append(_mistaken(output, wanted))
        if moment is not None:
            moment.add(point.grad)
    classes = not rounds.targets.is_floating_point()
    bound = guarantee(moment.total(), diameter) if guarantee and moment is not None else None
    return Game(
        rate=float(player.param_groups[0]["lr"]),
        losses=torch.tensor(losses, dtype=torch.float64),
        mistakes=torch.tensor(mistakes) if classes else None,
        average=average,
        bound=bound,
        ended=ended,
    )


def _output(point: Tensor, z: Tensor) -> Tensor:
    """Return the output (1, c) of X for one input."""
    if point.shape == z.shape:
        return torch.dot(point.flatten(), z.flatten()).view(1, 1)
    return torch.mv(point.mT, z.flatten()).unsqueeze(0)


def _slope(task: Task, output: Tensor, wanted: Tensor) -> tuple[float, Tensor]:
    """Return the loss of one output (1, c), and its derivative (1, c)."""
    output = output.detach().requires_grad_()
    loss = task.loss(output, wanted)
    (slope,) = torch.autograd.grad(loss, output)
    return loss.item(), slope


def _gradient(point: Tensor, z: Tensor, slope: Tensor) -> Tensor:
    """Return the gradient in X of a loss of that derivative (1, c)."""
    if point.shape == z.shape:
        return z * slope.view(())
    return torch.outer(z.flatten(), slope.view(-1))


def _mistaken(output: Tensor, wanted: Tensor) -> bool:
    if output.shape[1] == 1:
        return (output.item() > 0) != (wanted.item() > 0)
    return bool(output.argmax().item() != wanted.item())


def _project(point: Tensor, radius: float) -> None:
    """Bring X (...) into the ball, in place."""
    norm = float(point.norm())
    if norm > radius:
        point.mul_(radius / norm)


class _Moment:
    """Σ vec(g)vec(g)ᵀ (d, d), added up in chunks."""

    def __init__(self, like: Tensor) -> None:
        size = like.numel()
        self._sum = like.new_zeros(size, size)
        self._rows = like.new_zeros(CHUNK, size)
        self._filled = 0

    def add(self, gradient: Tensor | None) -> None:
        assert gradient is not None
        self._rows[self._filled] = gradient.flatten()
        self._filled += 1
        if self._filled == CHUNK:
            self._sum.addmm_(self._rows.mT, self._rows)
            self._filled = 0

    def total(self) -> Tensor:
        rows = self._rows[: self._filled]
        return self._sum + rows.mT @ rows
