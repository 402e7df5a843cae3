"""Scores of a search for the intrinsic dimension, and of what the model that it found promises."""

from __future__ import annotations

from sketchbench import Field, Missing, Score
from sketchbench.builtin.workloads.compression import Compressed
from sketchbench.builtin.workloads.intrinsic import Descent


class SubspaceDimension(Score):
    """D*, the dimension of the random subspace in which training reached τ₉₀.

    An upper bound: the search overshoots where it doubles too early. `accuracy_margin@half` says
    whether training at D*/2 misses τ₉₀; where that is 0 or more, D* is lower.
    """

    name = "subspace_dimension"
    consumes = Descent
    unit = "1"
    direction = "lower"
    margin = 0.5
    relative = True

    def __call__(self, outcome: Descent) -> float:
        """Return it; raise `Missing` where τ₉₀ wasn't reached."""
        _check_reached(outcome)
        return float(outcome.dimension)


class DimensionShare(Score):
    """D*/N, of the model's parameters: the intrinsic dimension relative to the model's."""

    name = "dimension_share"
    consumes = Descent
    unit = "fraction"
    direction = "lower"
    margin = 0.5
    relative = True

    def __call__(self, outcome: Descent) -> float:
        """Return it; raise `Missing` where τ₉₀ wasn't reached."""
        _check_reached(outcome)
        return outcome.dimension / outcome.size


class SearchSteps(Score):
    """Steps of the search until τ₉₀, or until the budget ran out."""

    name = "search_steps"
    consumes = Descent
    unit = "steps"
    direction = "lower"
    margin = 0.1
    relative = True

    def __call__(self, outcome: Descent) -> float:
        """Return the steps."""
        return float(outcome.steps)


class AccuracyMargin(Score):
    """Best accuracy in a subspace, less τ₉₀: negative at D*/2 if the search didn't overshoot."""

    name = "accuracy_margin"
    consumes = Descent
    unit = "fraction"
    direction = "higher"
    margin = 0.005

    def __call__(self, outcome: Descent) -> float:
        """Return the difference."""
        return outcome.best - outcome.target


class CompressionBound(Score):
    """What the expected 0-1 error is below, with 95 % confidence, by the code of ω at D*.

    Vacuous where it isn't below the error of guessing, 1 − 1/classes. See `Compressed.bound`;
    examples have to be independent, so a window of text is one, with the share of its tokens that
    are wrong as its error. Plain rounding and no entropy code: it can be tightened, by a little.
    """

    name = "compression_bound"
    consumes = Compressed
    unit = "fraction"
    direction = "lower"
    margin = 0.02

    confidence: float = Field(0.95, gt=0, lt=1, description="Probability that the bound holds.")
    over_guessing: bool = Field(
        False, description="Whether to divide by the error of guessing: vacuous at 1 and above."
    )

    def __call__(self, outcome: Compressed) -> float:
        """Return the bound, the least of all widths."""
        bound = outcome.bound(self.confidence)
        return bound / outcome.chance if self.over_guessing else bound


def _check_reached(outcome: Descent) -> None:
    if not outcome.reached:
        raise Missing(
            f"the accuracy came to {outcome.best:.3f} of {outcome.target:.3f} in dimension "
            f"{outcome.dimension} of {outcome.largest}, after {outcome.steps} steps"
        )
