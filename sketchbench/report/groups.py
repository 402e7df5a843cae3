"""Groups: the cells of an experiment that are compared with one another, and their readings."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from sketchbench import statistics
from sketchbench.records import Measurement, Placement, Record
from sketchbench.report.plans import NOT_RUN
from sketchbench.statistics import Difference, Mean, Quotient, Ratio

if TYPE_CHECKING:
    from sketchbench.metric import Derived

Derive = Callable[[Mapping[str, Any]], "Derived | None"]

_CLOCKED = {"s", "ms", "us", "µs", "μs", "ns", "min", "h", "sec", "second", "seconds", "J", "W"}
_COUNTED = {"B", "bytes", "byte", "FLOP", "FLOPs", "flop", "flops"}
COUNTS = ("occurrences",)  # parts that have no unit: numbers of things


@dataclass(frozen=True, eq=False)
class Column:
    """One metric of an experiment at one place, as its outline states it."""

    label: str
    metric: str
    where: str | None
    unit: str
    direction: str
    margin: float
    relative: bool
    derived: bool
    breakdown: bool = False
    recipe: Derived | None = None

    @classmethod
    def of(cls, entry: Mapping[str, Any], derive: Derive | None) -> Self:
        """Read an entry of an outline; a derived one is resolved to its recipe, if it can be."""
        derived = entry["derived"]
        return cls(
            label=entry["label"],
            metric=entry["name"],
            where=entry["where"] or None,
            unit=entry["unit"],
            direction=entry["direction"],
            margin=entry["margin"],
            relative=entry["relative"],
            derived=derived,
            breakdown=entry.get("breakdown", False),  # which outlines stored earlier lack
            recipe=derive(entry["metric"]) if derived and derive else None,
        )

    @property
    def missing(self) -> bool:
        """Whether it is derived by a recipe that isn't there."""
        return self.derived and self.recipe is None

    @property
    def clocked(self) -> bool:
        """Whether its values depend on the machine and the moment: times, energies, rates."""
        return not _CLOCKED.isdisjoint(re.split(r"[^A-Za-zµμ]+", self.unit))

    @property
    def quality(self) -> bool:
        """Whether it judges a result, rather than measuring a resource."""
        return not (self.clocked or self.unit in _COUNTED)

    @property
    def pooled(self) -> bool:
        """Whether a method's value is a quotient of means over seeds, not a mean of values."""
        if self.recipe is None:
            return False
        from sketchbench import metric  # there already, with the recipe; not without one

        return isinstance(self.recipe, metric.Quotient)

    def estimate(self, readings: Mapping[int, Reading]) -> Mean | Quotient:
        """Return a method's value over all seeds, with its interval."""
        if self.pooled:
            return statistics.quotient(each.terms or (None, None) for each in readings.values())
        return statistics.mean(each.value for each in readings.values())

    def compare(
        self, these: Mapping[int, Reading], those: Mapping[int, Reading]
    ) -> Difference | Ratio:
        """Pair two methods' readings by seed: a ratio where `relative`, else a difference.

        Clocked values make a pair only where both were measured in one session.
        """
        pairs: list[tuple[float | None, float | None]] = []
        for seed in these.keys() & those.keys():
            a, b = these[seed], those[seed]
            apart = self.clocked and a.sessions != b.sessions
            pairs.append((None, None) if apart else (a.value, b.value))
        return statistics.ratio(pairs) if self.relative else statistics.difference(pairs)


@dataclass(frozen=True)
class Reading:
    """A column's value for one ok cell: None with a reason where it has none.

    `sessions` are those in which what it rests on was measured; `busy` says what else the machine
    did while a clocked one was timed, if it did; `terms`: numerator and denominator of a quotient.
    """

    value: float | None
    sessions: frozenset[int]
    why: str = ""
    busy: str = ""
    terms: tuple[float, float] | None = None


@dataclass(frozen=True)
class Cell:
    """A planned cell, with its record once there is one."""

    placement: Placement
    record: Record | None

    @property
    def status(self) -> str:
        """The record's status, or `not run`."""
        return self.record.status if self.record else NOT_RUN


@dataclass(frozen=True)
class Group:
    """All cells of an experiment that are equal in every axis but the method axis.

    `methods` maps each method's label to its cells by seed; both in the order of the suite.
    Where an axis was tuned, `chosen` says which of its labels each method's cells have, and
    `passed` are the cells at its other labels.
    """

    experiment: str
    title: str
    labels: Mapping[str, str]
    columns: Sequence[Column]
    methods: Mapping[str, Mapping[int, Cell]]
    baseline: str | None
    control: str | None
    chosen: Mapping[str, str] = field(default_factory=dict)
    passed: Sequence[Cell] = ()

    def readings(self, column: Column) -> dict[str, dict[int, Reading]]:
        """Return the column's readings of all ok cells, by method and seed."""
        return {
            method: {
                seed: self._reading(column, cell.record, seed)
                for seed, cell in by_seed.items()
                if cell.record and cell.status == "ok"
            }
            for method, by_seed in self.methods.items()
        }

    def _reading(self, column: Column, record: Record, seed: int) -> Reading:
        reading = self._derived(column, record, seed) if column.derived else _stored(column, record)
        timed = column.clocked and _finite(reading.value)
        busy = _busy(record, reading.sessions) if timed else ""
        return replace(reading, busy=busy) if busy else reading

    def _derived(self, column: Column, record: Record, seed: int) -> Reading:
        recipe = column.recipe
        if recipe is None:
            return Reading(None, frozenset(), "its plugin is missing")
        from sketchbench import metric  # there already, with the recipe; not without one
        from sketchbench.protocols import Missing

        grouped = recipe.scope == "group"
        baseline = self._ok(self.baseline, seed) if grouped else None
        control = self._ok(self.control, seed) if grouped else None
        found = _needed(recipe, record)
        sessions = frozenset(m.session or record.session for m in found)
        terms = None
        try:
            value = recipe.derive(record, baseline, control)
            value = None if value is None else float(value)
            if isinstance(recipe, metric.Quotient):
                terms = recipe.terms(record, baseline, control)
        except Missing as missing:
            return Reading(None, sessions, _missing([str(missing)]))
        except Exception as error:  # a plugin's mistake costs its column, not the report
            return Reading(None, sessions, f"it failed with {type(error).__name__}: {error}")
        others = [m for other in (baseline, control) if other for m in _needed(recipe, other)]
        told = terms and all(map(_finite, terms))  # a denominator of 0 is no gap: means decide
        why = "" if told else _why(value, found + others)
        return Reading(value, sessions or frozenset({record.session}), why, terms=terms)

    def _ok(self, method: str | None, seed: int) -> Record | None:
        cell = self.methods.get(method, {}).get(seed) if method is not None else None
        return cell.record if cell and cell.status == "ok" else None


def _needed(recipe: Derived, record: Record) -> list[Measurement]:
    found = (record.find(*need.split("@", 1)) for need in recipe.needs)
    return [measurement for measurement in found if measurement]


def _stored(column: Column, record: Record) -> Reading:
    found = record.find(column.metric, column.where)
    if found is None:
        return Reading(None, frozenset(), "not measured")
    sessions = frozenset({found.session or record.session})
    return Reading(found.value, sessions, _why(found.value, [found]))


def _why(value: float | None, rests_on: Iterable[Measurement]) -> str:
    """Say why there is no number: what is missing beneath it, else what it is instead."""
    if _finite(value):
        return ""
    reasons = [m.why for m in rests_on if m.why]
    if reasons:
        return _missing(reasons)
    return "undefined" if value is None else f"it is {value}"


def _missing(reasons: Iterable[str]) -> str:
    return ": ".join(filter(None, ("missing", "; ".join(dict.fromkeys(reasons)))))


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _busy(record: Record, sessions: frozenset[int]) -> str:
    """Return what the machine did beside a cell's timing in `sessions`; nothing if it was quiet."""
    for event in record.events:
        here = event.get("session", record.session) in sessions
        if event.get("name") == "contention" and event.get("busy") and here:
            return str(event.get("what") or "").removeprefix("busy: ") or "cause unknown"
    return ""


def groups(
    outline: Mapping[str, Any],
    placements: Iterable[Placement],
    records: Mapping[str, Record],
    derive: Derive | None = None,
) -> list[Group]:
    """Return the comparison groups of every experiment, in the order of the suite."""
    by_experiment: dict[str, list[Cell]] = {}
    for placement in placements:
        cell = Cell(placement, records.get(placement.cell))
        by_experiment.setdefault(placement.experiment, []).append(cell)
    return [
        group
        for experiment in outline.get("experiments", ())
        for group in _grouped(experiment, by_experiment.get(experiment["name"], []), derive)
    ]


def _grouped(
    experiment: Mapping[str, Any], cells: Iterable[Cell], derive: Derive | None
) -> list[Group]:
    axes: Mapping[str, Sequence[str]] = experiment.get("axes") or {}
    axis = experiment.get("method_axis")
    columns = tuple(Column.of(entry, derive) for entry in experiment.get("metrics", ()))
    found: dict[tuple[tuple[str, str], ...], dict[str, dict[int, Cell]]] = {}
    for cell in _ordered(cells, axes):
        labels = {a: cell.placement.axes[a] for a in axes if a in cell.placement.axes}
        labels |= cell.placement.axes
        if axis is None:  # nothing says what is compared with what: all with all
            method, labels = ", ".join(labels.values()) or experiment["name"], {}
        else:
            method = labels.pop(axis, "–")
        methods = found.setdefault(tuple(labels.items()), {})
        methods.setdefault(method, {})[cell.placement.seed] = cell
    return [
        Group(
            experiment=experiment["name"],
            title=experiment.get("title") or experiment["name"],
            labels=dict(labels),
            columns=columns,
            methods=methods,
            baseline=experiment.get("baseline"),
            control=experiment.get("control"),
        )
        for labels, methods in found.items()
    ]


def _ordered(cells: Iterable[Cell], axes: Mapping[str, Sequence[str]]) -> list[Cell]:
    """Order by the outline's labels, those that it doesn't know last, then by seed."""
    ranks = {axis: {label: i for i, label in enumerate(known)} for axis, known in axes.items()}

    def rank(cell: Cell) -> list[int]:
        labels = cell.placement.axes
        places = [known.get(labels.get(axis, ""), len(known)) for axis, known in ranks.items()]
        return [*places, cell.placement.seed]

    return sorted(cells, key=rank)
