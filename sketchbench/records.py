"""Records: what a cell measured, as plain data that needs no plugin to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from sketchbench.metric import Metric

STATUSES = ("ok", "nan", "error", "timeout", "oom", "crash", "interrupted", "skipped")


@dataclass(frozen=True)
class Measurement:
    """One metric at one place: its value, parts, and every sample or curve point behind it.

    With `at`, `samples` is a curve over `at` and `seconds` the measured work until each point;
    without, `samples` are the values of the counted occurrences of a region.
    """

    metric: str
    where: str
    value: float
    unit: str
    direction: str
    margin: float
    relative: bool
    parts: Mapping[str, float] = field(default_factory=dict)
    at: Sequence[float] = ()
    samples: Sequence[float] = ()
    seconds: Sequence[float] = ()
    session: int = 0
    source: str = ""  # digest of the package that the metric comes from
    why: str = ""  # why there is no value (which is then NaN)

    @classmethod
    def of(cls, metric: Metric, where: str, value: float, **rest: Any) -> Self:
        """Return a measurement that carries the metric's unit, direction and margin."""
        return cls(
            metric=metric.label(),
            where=where,
            value=value,
            unit=metric.unit,
            direction=metric.direction,
            margin=metric.margin,
            relative=metric.relative,
            **rest,
        )


@dataclass(frozen=True)
class Record:
    """What one cell measured, or why it didn't.

    `key` changes with everything that can change the numbers, `cell` with the configuration only.
    """

    key: str
    cell: str
    status: str
    reason: str
    started: str
    seconds: float
    config: Mapping[str, Any]
    measurements: Sequence[Measurement] = ()
    events: Sequence[Mapping[str, Any]] = ()
    log: str = ""
    session: int = 0
    later: str = ""  # status of a newer attempt that failed, where this one is sound

    def find(self, metric: str, where: str | None = None) -> Measurement | None:
        """Return the measurement of `metric` at `where` (default: `test`, else the first)."""
        found = [m for m in self.measurements if m.metric == metric]
        if where is not None:
            return next((m for m in found if m.where == where), None)
        return next((m for m in found if m.where == "test"), found[0] if found else None)

    def value(self, metric: str, where: str | None = None) -> float | None:
        """Return the value of `metric`, or None where it wasn't measured."""
        found = self.find(metric, where)
        return found.value if found else None

    def direction(self, metric: str, where: str | None = None) -> str | None:
        """Return which way `metric` is better, or None where it wasn't measured."""
        found = self.find(metric, where)
        return found.direction if found else None

    def curve(self, metric: str, where: str | None = None) -> list[tuple[float, float, float]]:
        """Return (at, value, seconds of measured work until then) for each delivery."""
        found = self.find(metric, where)
        return list(zip(found.at, found.samples, found.seconds, strict=True)) if found else []


@dataclass(frozen=True)
class Placement:
    """Where a cell appears in a suite: the experiment, one label per axis, and the seed."""

    experiment: str
    axes: Mapping[str, str]
    seed: int
    cell: str
    key: str  # of the record that the last run counted as this cell's


@dataclass(frozen=True)
class Session:
    """One call of `run`: when, on which machine, in which environment."""

    id: int
    started: str
    machine: str
    environment: Mapping[str, Any]
