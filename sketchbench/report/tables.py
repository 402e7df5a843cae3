"""Tables: what a report says, as plain data; one table for each comparison group."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sketchbench.records import Placement, Record, Session
from sketchbench.report import advice, breakdowns, notes
from sketchbench.report.arranging import arranged
from sketchbench.report.breakdowns import Breakdown
from sketchbench.report.groups import Column, Derive, Group, Reading, groups
from sketchbench.statistics import Difference, Mean, Quotient, Ratio


@dataclass(frozen=True)
class Entry:
    """One method's value of one metric, and its change against the baseline.

    `busy`: the mean holds times that were taken while the machine had other work.
    """

    mean: Mean | Quotient
    change: Difference | Ratio | None
    best: bool = False
    busy: bool = False


@dataclass(frozen=True)
class Row:
    """One method: `role` is `baseline`, `control` or empty; `statuses` counts what isn't ok."""

    method: str
    role: str
    ok: int
    planned: int
    statuses: Mapping[str, int]
    entries: Sequence[Entry]


@dataclass(frozen=True)
class Table:
    """One comparison group: a row for each method, and what has to be known to read them.

    `breakdowns` have the same rows.
    """

    experiment: str
    title: str
    labels: Mapping[str, str]
    baseline: str | None
    control: str | None
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str]
    breakdowns: Sequence[Breakdown] = ()
    advice: Sequence[str] = ()


def tables(
    outline: Mapping[str, Any],
    placements: Iterable[Placement],
    records: Mapping[str, Record],
    derive: Derive | None = None,
    resolve: advice.Resolve | None = None,
) -> list[Table]:
    """Return a table for each comparison group of each experiment, in the order of the suite."""
    found = groups(outline, placements, records, derive)
    return [_table(group, resolve) for group in arranged(outline, found)]


def provenance(
    placements: Iterable[Placement],
    records: Mapping[str, Record],
    sessions: Mapping[int, Session],
) -> list[str]:
    """Say what holds for all tables: which sessions they mix."""
    lines = []
    used: set[int] = set()
    for cell in {p.cell for p in placements if p.cell in records}:
        record = records[cell]
        used |= {m.session or record.session for m in record.measurements} or {record.session}
    if len(used) > 1:
        found = [sessions[number] for number in sorted(used) if number in sessions]
        machines = list(dict.fromkeys(session.machine for session in found))
        lines.append(
            f"measured in {len(used)} sessions"
            + (f" from {found[0].started} to {found[-1].started}" if found else "")
            + (f", on {', '.join(machines)}" if machines else "")
            + "; times are compared within a session only"
        )
    return lines


def _table(group: Group, resolve: advice.Resolve | None) -> Table:
    baseline = group.baseline if group.baseline in group.methods else None
    readings = {column: group.readings(column) for column in group.columns}
    entries = {column: _entries(group, column, readings[column], baseline) for column in readings}
    rows = []
    for method, by_seed in group.methods.items():
        statuses = Counter(cell.status for cell in by_seed.values())
        ok = statuses.pop("ok", 0)
        role = {baseline: "baseline", group.control: "control"}.get(method, "")
        mine = tuple(entries[column][method] for column in group.columns)
        rows.append(Row(method, role, ok, len(by_seed), dict(statuses), mine))
    return Table(
        experiment=group.experiment,
        title=group.title,
        labels=group.labels,
        baseline=baseline,
        control=group.control if group.control in group.methods else None,
        columns=group.columns,
        rows=rows,
        notes=notes.of(group, readings),
        breakdowns=breakdowns.of(group),
        advice=advice.of(group, readings, resolve),
    )


def _entries(
    group: Group,
    column: Column,
    readings: Mapping[str, Mapping[int, Reading]],
    baseline: str | None,
) -> dict[str, Entry]:
    means = {method: column.estimate(readings[method]) for method in group.methods}
    best = _best(group, column, means)
    return {
        method: Entry(
            mean=means[method],
            change=None
            if baseline in (None, method) or column.pooled
            else column.compare(readings[method], readings[baseline]),
            best=method in best,
            busy=any(reading.busy for reading in readings[method].values()),
        )
        for method in group.methods
    }


def _best(group: Group, column: Column, means: Mapping[str, Mean | Quotient]) -> set[str]:
    """Return the methods whose mean is within the metric's margin of the best one.

    A method that lost a seed, and the control, don't compete; where all are that close, none is.
    """
    competing = {
        method: means[method].value
        for method, by_seed in group.methods.items()
        if method != group.control
        and all(cell.record is None or cell.status == "ok" for cell in by_seed.values())
        and 0 < means[method].n == means[method].of
        and math.isfinite(means[method].value)
    }
    if not competing:
        return set()
    best = (max if column.direction == "higher" else min)(competing.values())
    slack = column.margin * (abs(best) if column.relative else 1.0)
    found = {method for method, value in competing.items() if abs(value - best) <= slack}
    return found if len(found) < len(competing) else set()
