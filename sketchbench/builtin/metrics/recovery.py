"""Recovery: how long a measured quality takes to come back after a shift."""

from __future__ import annotations

from sketchbench import Derived, Field, Measured, Missing


class RecoveryHalfLife(Derived):
    """Steps after a shift until a curve has regained half of what it lost.

    Before: the mean of the last `points` points of the curve before the shift. Low: the worst of
    the first `points` from the shift on. The half-life ends at the first point after the low that
    is half-way back. Undefined where the curve never comes back so far; missing where it fell by
    less than `fall`, which noise could have done.
    """

    name = "recovery_half_life"
    unit = "steps"
    direction = "lower"
    margin = 1.0

    metric: str = Field(
        "cosine@probe", min_length=1, description="The score, as `name` or `name@where`."
    )
    shift: int = Field(ge=1, description="The step at which the data shift.")
    points: int = Field(5, ge=1, description="Points before the shift, and after it, looked at.")
    fall: float = Field(0.05, gt=0, description="The least fall that counts, in the score's unit.")

    @property
    def needs(self) -> tuple[str, ...]:
        """The score whose curve is read."""
        return (self.metric,)

    def derive(
        self, cell: Measured, baseline: Measured | None = None, control: Measured | None = None
    ) -> float | None:
        """Return the steps, or None where the curve never comes half-way back."""
        score, _, where = self.metric.partition("@")
        sign = 1 if cell.direction(score, where or None) == "higher" else -1
        curve = [(at, sign * value) for at, value, _ in cell.curve(score, where or None)]
        before = [value for at, value in curve if at < self.shift][-self.points :]
        after = [(at, value) for at, value in curve if at >= self.shift]
        if not before or not after:
            raise Missing(f"the curve has no point on both sides of step {self.shift}")
        level = sum(before) / len(before)
        low = min(value for _, value in after[: self.points])
        if level - low < self.fall:
            raise Missing(f"it fell by less than {self.fall:g} at step {self.shift}")
        fallen = next(i for i, (_, value) in enumerate(after) if value == low)
        back = (at for at, value in after[fallen:] if value >= (level + low) / 2)
        found = next(back, None)
        return None if found is None else found - self.shift
