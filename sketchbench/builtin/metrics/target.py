"""Time to a target quality, derived from a score's curve."""

from __future__ import annotations

from sketchbench import Derived, Field, Measured


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

    @property
    def needs(self) -> tuple[str, ...]:
        """The score whose curve is read."""
        return (self.metric,)

    def derive(
        self, cell: Measured, baseline: Measured | None = None, control: Measured | None = None
    ) -> float | None:
        """Return the seconds until the target, or None where it is never reached."""
        score, _, where = self.metric.partition("@")
        sign = 1 if cell.direction(score, where or None) == "higher" else -1
        curve = cell.curve(score, where or None)
        return next(
            (seconds for _, value, seconds in curve if sign * value >= sign * self.target), None
        )
