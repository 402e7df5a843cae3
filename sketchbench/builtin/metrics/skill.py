"""Skill: how much of what the exact gradient is worth a method attains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sketchbench import Field, Measured, Missing, Quotient


class Skill(Quotient):
    """(m − control) / (baseline − control) of a score m: 0 is the control's, 1 the baseline's.

    Of the means over seeds, paired, with Fieller's interval; undefined where the baseline can't be
    told from the control. It means something only where nothing but the sketched gradient can
    train the weights: where the method, and the control, touch `all` linear layers.
    """

    name = "skill"
    unit = "fraction"
    direction = "higher"
    margin = 0.02

    metric: str = Field(
        "accuracy", min_length=1, description="The score, as `name` or `name@where`."
    )

    @property
    def needs(self) -> tuple[str, ...]:
        """The score that is compared."""
        return (self.metric,)

    def terms(
        self, cell: Measured, baseline: Measured | None, control: Measured | None
    ) -> tuple[float, float] | None:
        """Return (m − control, baseline − control); raises `Missing` where they mean nothing."""
        if baseline is None or control is None:
            raise Missing("a baseline and a control of the same seed are needed")
        _check_scope(cell, "the method")
        _check_scope(control, "the control")
        score, _, where = self.metric.partition("@")
        found = [each.value(score, where or None) for each in (cell, baseline, control)]
        if any(value is None for value in found):
            return None
        value, best, floor = (float(each) for each in found if each is not None)
        return value - floor, best - floor


def _check_scope(cell: Measured, whose: str) -> None:
    """Raise `Missing` where a recipe says that it leaves linear layers exact."""
    workload: Mapping[str, Any] = cell.config.get("workload") or {}
    scope = (workload.get("activation") or {}).get("scope", "all")
    if scope != "all":
        told = scope if isinstance(scope, str) else ", ".join(map(str, scope))
        raise Missing(f"meaningful in scope all only; {whose} has scope {told}")
