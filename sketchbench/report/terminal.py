"""The report as text: tables in a terminal, the same as plain lines where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sketchbench.report import numerals
from sketchbench.report.advice import Resolve
from sketchbench.report.breakdowns import Breakdown
from sketchbench.report.groups import Derive
from sketchbench.report.paper import INDENT, Plain, Screen, Strip
from sketchbench.report.plans import Plan, plans, spell, statuses
from sketchbench.report.tables import Entry, Table, provenance, tables
from sketchbench.statistics import Mean, Quotient, Ratio

if TYPE_CHECKING:
    from rich.console import Console

    from sketchbench.store import Store


def show(
    store: Store,
    suite: str | None,
    console: Console,
    derive: Derive | None = None,
    selection: str | None = None,
    resolve: Resolve | None = None,
) -> bool:
    """Print the stored results of a suite (default: of all); return whether there were any."""
    paper = Screen(console) if console.is_terminal else Plain(console)
    shown: list[Table] = []
    found = plans(store, suite, selection)
    for plan in found:
        if shown:
            paper.line()
        shown += _show(plan, paper, derive, resolve)
    if shown:
        paper.line()
        paper.notes(legend(shown))
    return bool(found)


def legend(shown: Sequence[Table]) -> list[str]:
    """Return the lines that explain the signs in the tables shown."""
    entries = [entry for table in shown for row in table.rows for entry in row.entries]
    changes = [entry.change for entry in entries if entry.change and entry.change.n]
    lines = ["n: ok cells of planned ones (seeds); ↑ higher is better, ↓ lower is better"]
    means = [entry.mean for entry in entries]
    if any(mean.half_width is not None for mean in means if isinstance(mean, Mean)):
        lines.append("±: half-width of the 95 % t interval of the mean over seeds")
    if any(mean.n == 1 for mean in means):
        lines.append("a number without ± comes from one seed: no interval")
    if any(mean.low is not None for mean in means if isinstance(mean, Quotient)):
        lines.append("[low, high]: Fieller's 95 % interval of a quotient of means over seeds")
    if changes:
        kinds = [
            *(["Δ (difference)"] if any(not isinstance(c, Ratio) for c in changes) else []),
            *(["ratio"] if any(isinstance(c, Ratio) for c in changes) else []),
        ]
        lines.append(
            f"{' and '.join(kinds)}: to the baseline, paired by seed, with the 95 % t interval"
        )
    if any(entry.best for entry in entries):
        lines.append(
            "*: best mean, or within the metric's margin of it; methods that lost a seed, and the "
            "control, don't compete"
        )
    if any(entry.busy for entry in entries):
        lines.append(
            "!: some of these times were taken while the machine was busy and may be too long; the "
            "note under the table says why"
        )
    if any(table.breakdowns for table in shown):
        lines.append(
            "by part: means over the ok cells, which add up to the metric's; – where a method has "
            "no such part, no ± where all seeds agree"
        )
    return lines


def _show(plan: Plan, paper: Plain, derive: Derive | None, resolve: Resolve | None) -> list[Table]:
    title = plan.outline.get("title")
    paper.line(plan.suite + (f": {title}" if title else ""), "bold")
    counts = spell(statuses(plan.placements, plan.records)) or "no cells"
    paper.line((f"{plan.selection} — " if plan.selection else "") + counts, "dim")
    paper.notes(provenance(plan.placements, plan.records, plan.sessions))
    found = tables(plan.outline, plan.placements, plan.records, derive, resolve)
    for table in found:
        paper.line()
        paper.line(table.title, "bold")
        for axis, label in table.labels.items():
            paper.line(f"{axis}: {label}", indent=INDENT)
        filled = [i for i in range(len(table.columns)) if _has_numbers(table, i)]
        metrics = [_strips(table, i) for i in filled]
        paper.grid(_leading(table), metrics, _dim(table), table.title)
        paper.notes(table.notes)
        paper.notes(f"advice: {line}" for line in table.advice)
        for breakdown in table.breakdowns:
            paper.line()
            _break_down(table, breakdown, paper)
    return found


def _break_down(table: Table, breakdown: Breakdown, paper: Plain) -> None:
    """Write a breakdown in the unit of the column that it belongs to."""
    column = breakdown.column
    scale = _scale(table, table.columns.index(column))
    title = f"{column.label} by part" + (f" [{scale.unit}]" if scale.unit else "")
    paper.line(title)
    strips = [
        [Strip(part.replace("_", " "), [scale.mean(row[i]) for row in breakdown.rows])]
        for i, part in enumerate(breakdown.parts)
    ]
    paper.grid([_methods(table)], strips, _dim(table), title)


def _dim(table: Table) -> set[int]:
    return {r for r, row in enumerate(table.rows) if row.role == "control"}


def _has_numbers(table: Table, index: int) -> bool:
    """Whether any method has a value in this column; if none has, its note says enough."""
    return any(row.entries[index].mean.n for row in table.rows)


def _leading(table: Table) -> list[Strip]:
    """Return the columns that every part of a table repeats: method, n, and what went wrong."""
    rows = table.rows
    strips = [_methods(table), Strip("n", [f"{row.ok}/{row.planned}" for row in rows])]
    if any(row.statuses for row in rows):
        strips.append(Strip("not ok", [spell(row.statuses) for row in rows], style="red"))
    return strips


def _methods(table: Table) -> Strip:
    labels = [row.method + (f" ({row.role})" if row.role else "") for row in table.rows]
    return Strip("method", labels)


def _scale(table: Table, index: int) -> numerals.Scale:
    values = (row.entries[index].mean.value for row in table.rows)
    return numerals.scale(table.columns[index].unit, values)


def _strips(table: Table, index: int) -> list[Strip]:
    """Return the columns of one metric: its values, and its changes against the baseline."""
    column = table.columns[index]
    entries = [row.entries[index] for row in table.rows]
    scale = _scale(table, index)
    best = frozenset(i for i, entry in enumerate(entries) if entry.best)
    marks = _marks(entries)
    unit = f" [{scale.unit}]" if scale.unit else ""
    arrow = "↑" if column.direction == "higher" else "↓"
    values = [
        scale.mean(entry.mean) + _missing(entry.mean.n, entry.mean.of) + mark
        for entry, mark in zip(entries, marks, strict=True)
    ]
    strips = [Strip(f"{column.label}{unit} {arrow}{' ' * len(marks[0])}", values, best)]
    if table.baseline is not None and any(entry.change for entry in entries):
        base = next((e for e, r in zip(entries, table.rows, strict=True) if r.role == "baseline"))
        changes = [_change(entry, base, scale) for entry in entries]
        strips.append(Strip("ratio" if column.relative else "Δ", changes))
    return strips


def _marks(entries: Sequence[Entry]) -> list[str]:
    """Return the signs behind each mean, those of busy cells and of the best under each other."""
    marks = [""] * len(entries)
    for sign, marked in (
        ("!", [entry.busy for entry in entries]),
        ("*", [entry.best for entry in entries]),
    ):
        if any(marked):
            signs = (f" {sign}" if it else "  " for it in marked)
            marks = [mark + more for mark, more in zip(marks, signs, strict=True)]
    return marks


def _change(entry: Entry, base: Entry, scale: numerals.Scale) -> str:
    if entry.change is None:
        return ""
    if isinstance(entry.change, Ratio):
        text = numerals.ratio(entry.change)
    else:
        sizes = [abs(e.mean.value) for e in (entry, base) if e.mean.n]
        text = scale.difference(entry.change, max(sizes, default=0.0))
    return text + _missing(entry.change.n, entry.mean.of)


def _missing(n: int, of: int) -> str:
    return f" ({n}/{of})" if 0 < n < of else ""
