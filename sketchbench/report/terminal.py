"""The report as text: tables in a terminal, the same as plain lines where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sketchbench.report import numerals
from sketchbench.report.groups import Derive
from sketchbench.report.paper import INDENT, Plain, Screen, Strip
from sketchbench.report.plans import Plan, plans, spell, statuses
from sketchbench.report.tables import Entry, Table, provenance, tables
from sketchbench.statistics import Ratio

if TYPE_CHECKING:
    from rich.console import Console

    from sketchbench.store import Store


def show(
    store: Store,
    suite: str | None,
    console: Console,
    derive: Derive | None = None,
    selection: str | None = None,
) -> bool:
    """Print the stored results of a suite (default: of all); return whether there were any."""
    paper = Screen(console) if console.is_terminal else Plain(console)
    shown: list[Table] = []
    found = plans(store, suite, selection)
    for plan in found:
        if shown:
            paper.line()
        shown += _show(plan, paper, derive)
    if shown:
        paper.line()
        paper.notes(legend(shown))
    return bool(found)


def legend(shown: Sequence[Table]) -> list[str]:
    """Return the lines that explain the signs in the tables shown."""
    entries = [entry for table in shown for row in table.rows for entry in row.entries]
    changes = [entry.change for entry in entries if entry.change and entry.change.n]
    lines = ["n: ok cells of planned ones (seeds); ↑ higher is better, ↓ lower is better"]
    if any(entry.mean.half_width is not None for entry in entries):
        lines.append("±: half-width of the 95 % t interval of the mean over seeds")
    if any(entry.mean.n == 1 for entry in entries):
        lines.append("a number without ± comes from one seed: no interval")
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
    return lines


def _show(plan: Plan, paper: Plain, derive: Derive | None) -> list[Table]:
    title = plan.outline.get("title")
    paper.line(plan.suite + (f": {title}" if title else ""), "bold")
    counts = spell(statuses(plan.placements, plan.records)) or "no cells"
    paper.line((f"{plan.selection} — " if plan.selection else "") + counts, "dim")
    paper.notes(provenance(plan.placements, plan.records, plan.sessions))
    found = tables(plan.outline, plan.placements, plan.records, derive)
    for table in found:
        paper.line()
        paper.line(table.title, "bold")
        for axis, label in table.labels.items():
            paper.line(f"{axis}: {label}", indent=INDENT)
        dim = {r for r, row in enumerate(table.rows) if row.role == "control"}
        filled = [i for i in range(len(table.columns)) if _has_numbers(table, i)]
        paper.grid(_leading(table), [_strips(table, i) for i in filled], dim)
        paper.notes(table.notes)
    return found


def _has_numbers(table: Table, index: int) -> bool:
    """Whether any method has a value in this column; if none has, its note says enough."""
    return any(row.entries[index].mean.n for row in table.rows)


def _leading(table: Table) -> list[Strip]:
    """Return the columns that every part of a table repeats: method, n, and what went wrong."""
    rows = table.rows
    labels = [row.method + (f" ({row.role})" if row.role else "") for row in rows]
    strips = [
        Strip("method", labels),
        Strip("n", [f"{row.ok}/{row.planned}" for row in rows]),
    ]
    if any(row.statuses for row in rows):
        strips.append(Strip("not ok", [spell(row.statuses) for row in rows], style="red"))
    return strips


def _strips(table: Table, index: int) -> list[Strip]:
    """Return the columns of one metric: its values, and its changes against the baseline."""
    column = table.columns[index]
    entries = [row.entries[index] for row in table.rows]
    scale = numerals.scale(column.unit, (entry.mean.value for entry in entries))
    best = frozenset(i for i, entry in enumerate(entries) if entry.best)
    mark = (" *", "  ") if best else ("", "")
    unit = f" [{scale.unit}]" if scale.unit else ""
    arrow = "↑" if column.direction == "higher" else "↓"
    values = [
        scale.mean(entry.mean) + _missing(entry.mean.n, entry.mean.of) + mark[not entry.best]
        for entry in entries
    ]
    strips = [Strip(f"{column.label}{unit} {arrow}{mark[1]}", values, best)]
    if table.baseline is not None and any(entry.change for entry in entries):
        base = next((e for e, r in zip(entries, table.rows, strict=True) if r.role == "baseline"))
        changes = [_change(entry, base, scale) for entry in entries]
        strips.append(Strip("ratio" if column.relative else "Δ", changes))
    return strips


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
