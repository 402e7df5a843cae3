"""Regret: online convex optimisation, a round at a time, beside the best fixed point."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Annotated, Self

import torch
from pydantic import model_validator

from sketchbench import (
    Diverged,
    Event,
    Field,
    Missing,
    Optimizer,
    Predictions,
    Run,
    Skip,
    Task,
    Workload,
)
from sketchbench.builtin.metrics.regret import Guarantee, Played
from sketchbench.builtin.workloads.comparator import Fixed, Rounds, best_fixed
from sketchbench.builtin.workloads.game import Game, play

if TYPE_CHECKING:
    from torch import Tensor

UNKNOWN = 1e-5  # nats a round: a comparator known no better than that is unknown


class Online(Workload):
    """Play T rounds once with each rate of a grid, and tell the regret of the best one.

    A round: an example is seen, the loss of X on it suffered, and X updated by its gradient, in
    float64 from X = 0. X has the shape of an input where the task has one output (the loss is of
    ⟨z, X⟩), and is (d, c) where it has c (of Xᵀz, with z flattened). The rate that is best has the
    least loss over all rounds; one that diverges has infinite loss. Within a ball ‖X‖ ≤ `radius`
    methods with a group key `radius` project in their own norm, others are projected in Frobenius
    norm after each step. Losses and regrets are in the task's unit: nats of logistic and softmax
    losses, that of the costs where these are linear. As X is float64, so is the state: its bytes
    are twice what they are in training.

    Events: `examples` played, loaded, and in the complete split; `rates`; `best fixed point`.
    Outcomes: `play`, after each of `points` stretches; `guarantee`, in a ball and of methods whose
    optimizer has a method `guarantee(G, diameter)`, with G = Σ vec(g)vec(g)ᵀ: of one more game, at
    AdaGrad's rate in theory, diameter/√2; `average`, predictions on held-out data of the mean of
    all X played. Region `step` is one round, on one thread: rounds
    are too small to share.
    """

    name = "regret"
    outcomes = {"play": Played, "guarantee": Guarantee, "average": Predictions}

    task: Task = Field(description="Whose examples are the rounds.")
    optimizer: Optimizer = Field(description="What plays.")
    rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (), description="Learning rates to play with, in place of the optimizer's own; [] is that."
    )
    rounds: int | None = Field(None, ge=1, description="T, at most; null is all examples.")
    radius: float | None = Field(None, gt=0, description="Of the ball X stays in; null is Rᵈ.")
    points: int = Field(20, ge=1, description="Stretches of equal length that are told apart.")

    @model_validator(mode="after")
    def _one_ball(self) -> Self:
        own = getattr(self.optimizer, "radius", None)
        if own is not None and own != self.radius:
            raise ValueError(
                f"regret: optimizer '{self.optimizer.name}' has a ball of its own, of radius "
                f"{own:g}; the comparator's is the workload's, {self.radius}: set that alone"
            )
        return self

    def run(self, run: Run) -> None:
        """Play with all rates, then find the best fixed point and deliver the outcomes."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            self._run(run)
        finally:
            torch.set_num_threads(threads)

    def _run(self, run: Run) -> None:
        rounds = self._drawn(run)
        games: dict[float | None, Game] = {}
        best: Game | None = None
        for rate in self.rates or (None,):
            game = play(run, rounds, self.optimizer, rate, self.radius)
            if best is None or game.loss() < best.loss():
                best = game
            games[rate] = game.without_points()
        assert best is not None
        run.deliver("play", Event("rates", self._told(games, best)))
        if not math.isfinite(best.loss()):
            ends = ", ".join(str(game.ended) for game in games.values())
            raise Diverged(f"every rate of {len(games)} diverged, at round {ends}")
        fixed = best_fixed(rounds, self.radius)
        loss = rounds.loss(fixed.point).item()
        details = {"loss": loss, "gap": fixed.gap, "norm": fixed.point.norm().item()}
        run.deliver("play", Event("best fixed point", details | {"within": fixed.within}))
        why = unknown(fixed, len(rounds))
        self._deliver_curve(run, rounds, best, fixed, why)
        run.deliver("guarantee", partial(self._guarantee, run, rounds, loss, why))
        run.deliver("average", partial(self._predictions, rounds, best))

    def _drawn(self, run: Run) -> Rounds:
        """Return the rounds, in the order that the run draws."""
        split = self.task.load("train")
        if not split.inputs.is_floating_point():
            raise Skip(f"regret: inputs of task '{self.task.name}' are no vectors but indices")
        order = self.task.order(split.targets, run.rng("order"))[: self.rounds]
        examples = {"played": len(order), "loaded": len(split.targets)}
        complete = _complete(self.task)
        run.deliver("play", Event("examples", examples | {"complete": complete}))
        chosen = (part[order].to(run.device) for part in (split.inputs, split.targets))
        return Rounds(self.task, *chosen)

    def _told(
        self, games: dict[float | None, Game], best: Game
    ) -> dict[str, str | int | float | bool | None]:
        """Return which rate was best, whether it is at the grid's edge, and what each suffered."""
        rates = sorted(self.rates)
        edge = len(rates) > 1 and best.rate in (rates[0], rates[-1])
        losses: dict[str, str | int | float | bool | None] = {
            f"loss at {game.rate:g}": (
                game.loss() if game.ended is None else f"diverged at round {game.ended}"
            )
            for game in games.values()
        }
        return {"best": best.rate, "edge": edge} | losses

    def _deliver_curve(
        self, run: Run, rounds: Rounds, best: Game, fixed: Fixed, why: Missing | None
    ) -> None:
        count = len(rounds)
        ends = sorted({max(1, count * i // self.points) for i in range(1, self.points + 1)})
        for end in ends:
            reached = why or rounds.loss(fixed.point, end).item()
            played = Played(end, best.loss(end), reached, best.wrong(end))
            run.deliver("play", played, at=end)

    def _guarantee(
        self, run: Run, rounds: Rounds, fixed: float, why: Missing | None
    ) -> Guarantee | Missing:
        """Return the regret beside its bound at the rate of theory, or why either isn't known."""
        if why is not None:
            return why
        if self.radius is None:
            return Missing("without a radius there is no diameter to bound the regret by")
        stated = Missing(f"optimizer '{self.optimizer.name}' states no bound of its regret here")
        if not hasattr(self.optimizer.build([torch.nn.Parameter(torch.zeros(1))]), "guarantee"):
            return stated
        diameter = 2 * self.radius
        rate = diameter / math.sqrt(2)
        game = play(run, rounds, self.optimizer, rate, self.radius, diameter)
        if game.bound is None or game.ended:
            return stated
        return Guarantee(game.loss() - fixed, game.bound)

    def _predictions(self, rounds: Rounds, best: Game) -> Predictions | Missing:
        """Return the predictions of the averaged point on held-out data."""
        if best.mistakes is None:
            return Missing("the task has no classes to predict")
        test = self.task.load("test")
        targets = test.targets.to(best.average.device)
        outputs = rounds.outputs(best.average, test.inputs.to(best.average.device))
        loss = self.task.loss(outputs, targets).item()
        return Predictions(_columns(outputs), targets, loss)


def _columns(outputs: Tensor) -> Tensor:
    """Return an output a class: of a single one, positive for class 1, a 0 beside it."""
    return torch.nn.functional.pad(outputs, (1, 0)) if outputs.shape[1] == 1 else outputs


def _complete(task: Task) -> int | None:
    """Return the examples of a task's complete training split, where it or its inner task knows."""
    sizes = getattr(task, "sizes", None)
    inner = getattr(task, "task", None)
    if sizes is None:
        return _complete(inner) if isinstance(inner, Task) else None
    return int(sizes["train"])


def unknown(fixed: Fixed, count: int) -> Missing | None:
    """Return why the comparator is unknown, where it is."""
    if fixed.gap <= UNKNOWN * count:
        return None
    return Missing(
        f"the best fixed point is known to {fixed.gap:.3g} nats only, among points of norm up to "
        f"{fixed.within:.3g}; linear losses need a radius"
    )
