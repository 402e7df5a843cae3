"""Breakdowns: of what parts a metric's value is made, by method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sketchbench import statistics
from sketchbench.report.groups import COUNTS, Cell, Column, Group
from sketchbench.statistics import Mean

SHOWN = 12  # parts side by side; of more, the largest and, as one, the rest
REST = "rest"

Parts = Mapping[str, float]  # of one cell


@dataclass(frozen=True)
class Breakdown:
    """The parts of one column that are non-zero for some method, as means over the ok cells.

    `rows` has a row for each method in the order of its table, and in it a mean for each part:
    without an interval where all seeds agree, with n = 0 where the method has no such part. A part
    that only some seeds of a method have is 0 in the others, so that means add up as parts do.
    """

    column: Column
    parts: Sequence[str]
    rows: Sequence[Sequence[Mean]]


def of(group: Group) -> list[Breakdown]:
    """Return the breakdown of each column that has one, where any method has parts."""
    found = [_breakdown(group, column) for column in group.columns if column.breakdown]
    return [breakdown for breakdown in found if breakdown.parts]


def _breakdown(group: Group, column: Column) -> Breakdown:
    methods = [list(_measured(column, cells.values())) for cells in group.methods.values()]
    every = [parts for cells in methods for parts in cells]
    shown = list(dict.fromkeys(part for parts in every for part, value in parts.items() if value))
    if len(shown) > SHOWN:
        shown = _largest(shown, methods)
        methods = [[_folded(parts, shown) for parts in cells] for cells in methods]
        shown.append(REST)
    return Breakdown(column, shown, [[_mean(part, cells) for part in shown] for cells in methods])


def _measured(column: Column, cells: Iterable[Cell]) -> Iterable[Parts]:
    """Yield the parts of each ok cell in which the column was measured."""
    for cell in cells:
        if cell.record and cell.status == "ok":
            found = cell.record.find(column.metric, column.where)
            if found and not found.why:
                yield {part: value for part, value in found.parts.items() if part not in COUNTS}


def _largest(parts: Iterable[str], methods: Sequence[Sequence[Parts]]) -> list[str]:
    """Return the parts whose mean over the methods is largest, in the order given."""

    def size(part: str) -> float:
        means = (_mean(part, cells) for cells in methods)
        return sum(abs(mean.value) for mean in means if mean.n)

    ranked = sorted((part for part in parts if part != REST), key=size, reverse=True)
    kept = set(ranked[: SHOWN - 1])
    return [part for part in parts if part in kept]


def _folded(parts: Parts, kept: Sequence[str]) -> Parts:
    """Return the parts with all but those kept added up."""
    rest = [value for part, value in parts.items() if part not in kept]
    return {part: parts[part] for part in kept if part in parts} | (
        {REST: sum(rest)} if rest else {}
    )


def _mean(part: str, cells: Sequence[Parts]) -> Mean:
    if not any(part in parts for parts in cells):
        return statistics.mean([])
    mean = statistics.mean(parts.get(part, 0.0) for parts in cells)
    return mean if mean.half_width else replace(mean, half_width=None)
