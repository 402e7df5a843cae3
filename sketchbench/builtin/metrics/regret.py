"""Scores of online convex optimisation: what a method suffered beside the best fixed point."""

from __future__ import annotations

from dataclasses import dataclass

from sketchbench import Missing, Score


@dataclass(frozen=True)
class Played:
    """Outcome: what a method suffered in `rounds`, in sums over them, each before its update.

    `best` is what the best fixed point of all rounds suffered in these, or why it isn't known;
    `mistakes` counts wrong classes, None where there are none to predict.
    """

    rounds: int
    loss: float
    best: float | Missing
    mistakes: int | None


@dataclass(frozen=True)
class Guarantee:
    """Outcome: the regret over all rounds, and what theory says that it can't exceed."""

    regret: float
    bound: float


class _Regret(Score):
    consumes = Played
    unit = "nats"
    direction = "lower"
    margin = 0.05
    relative = True


class Regret(_Regret):
    """Cumulative loss minus that of the best fixed point of all rounds.

    Nats are the unit of logistic and softmax losses; of linear costs it is that of the costs.
    """

    name = "regret"

    def __call__(self, outcome: Played) -> float:
        """Return the difference; raise `Missing` where the best fixed point isn't known."""
        if isinstance(outcome.best, Missing):
            raise outcome.best
        return outcome.loss - outcome.best


class AverageRegret(_Regret):
    """Regret a round; of linear costs in their unit."""

    name = "average_regret"

    def __call__(self, outcome: Played) -> float:
        """Return the quotient; raise `Missing` where the best fixed point isn't known."""
        return Regret()(outcome) / outcome.rounds


class CumulativeLoss(_Regret):
    """Sum of the losses suffered, each before its update; of linear costs in their unit."""

    name = "cumulative_loss"

    def __call__(self, outcome: Played) -> float:
        """Return the sum."""
        return outcome.loss


class Mistakes(Score):
    """Fraction of rounds whose class was predicted wrongly, before the update."""

    name = "mistakes"
    consumes = Played
    unit = "fraction"
    direction = "lower"
    margin = 0.005

    def __call__(self, outcome: Played) -> float:
        """Return the fraction; raise `Missing` where there are no classes."""
        if outcome.mistakes is None:
            raise Missing("the task has no classes to predict")
        return outcome.mistakes / outcome.rounds


class RegretOverBound(Score):
    """Regret at the rate of theory, as a fraction of the method's own guarantee there.

    Not above 1, unless the method or its theory is wrong.
    """

    name = "regret_over_bound"
    consumes = Guarantee
    unit = "fraction"
    direction = "lower"
    margin = 0.01

    def __call__(self, outcome: Guarantee) -> float:
        """Return the quotient."""
        return outcome.regret / outcome.bound
