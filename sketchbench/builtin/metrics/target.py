"""Time to a target quality, derived from a score's curve."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import model_validator

from sketchbench import Derived, Field, Measured
from sketchbench.builtin.metrics.approximation import RelativeError
from sketchbench.builtin.metrics.predictions import Accuracy, Loss

_BETTER = {score.name: score.direction for score in (Accuracy, Loss, RelativeError)}


class TimeToTarget(Derived):
    """Seconds of measured work (evaluation excluded) until a score's curve first reaches a target.

    The time is that of the first point of the curve that is at least as good as the target, so
    it is as fine as the curve. Undefined where the target is never reached.
    """

    name = "time_to_target"
    unit = "s"
    direction = "lower"
    margin = 0.05
    relative = True

    metric: str = Field(
        "accuracy", min_length=1, description="The score, as `name` or `name@where`."
    )
    target: float = Field(description="The score's value to reach, in its unit.")
    better: Literal["higher", "lower"] | None = Field(
        None, description="Which way the score is better; known for built-in scores."
    )

    @property
    def needs(self) -> tuple[str, ...]:
        """The score whose curve is read."""
        return (self.metric,)

    def derive(
        self, cell: Measured, baseline: Measured | None = None, control: Measured | None = None
    ) -> float | None:
        """Return the seconds until the target, or None where it is never reached."""
        score, _, where = self.metric.partition("@")
        sign = 1 if (self.better or _BETTER[score]) == "higher" else -1
        curve = cell.curve(score, where or None)
        return next(
            (seconds for _, value, seconds in curve if sign * value >= sign * self.target), None
        )

    @model_validator(mode="after")
    def _direction_known(self) -> Self:
        score = self.metric.partition("@")[0]
        if self.better is None and score not in _BETTER:
            raise ValueError(f"time_to_target of '{score}' needs 'better': higher or lower")
        return self
