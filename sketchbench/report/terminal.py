"""The report as text: tables in a terminal, the same as plain lines where there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from sketchbench.report import numerals
from sketchbench.report.groups import Column, Derive
from sketchbench.report.plans import Plan, one_line, plans, spell, statuses
from sketchbench.report.tables import Entry, Row, Table, provenance, tables
from sketchbench.statistics import Ratio

if TYPE_CHECKING:
    from sketchbench.store import Store

GAP = 2  # blanks between columns
INDENT = 2  # blanks before a note
ASCII = str.maketrans(
    {"±": "+-", "Δ": "diff", "↑": "^", "↓": "v", "–": "-", "×": "x", "µ": "u", "…": "..."}
)


def show(
    store: Store,
    suite: str | None,
    console: Console,
    derive: Derive | None = None,
    selection: str | None = None,
) -> bool:
    """Print the stored results of a suite (default: of all); return whether there were any."""
    found = plans(store, suite, selection)
    with _unbounded(console):
        paper = _Paper(console)
        for plan in found:
            _show(plan, paper, derive)
        if found:
            console.print()
            paper.notes(legend(paper.shown))
    return bool(found)


def legend(shown: Sequence[Table]) -> list[str]:
    """Return the lines that explain the signs in the tables shown."""
    entries = [entry for table in shown for row in table.rows for entry in row.entries]
    changes = [entry.change for entry in entries if entry.change]
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
        lines.append("*: best mean; methods that lost a seed, and the control, don't compete")
    return lines


def _show(plan: Plan, paper: _Paper, derive: Derive | None) -> None:
    title = plan.outline.get("title")
    paper.line(plan.suite + (f": {title}" if title else ""), "bold")
    counts = spell(statuses(plan.placements, plan.records)) or "no cells"
    paper.line((f"{plan.selection} — " if plan.selection else "") + counts, "dim")
    paper.notes(provenance(plan.outline, plan.placements, plan.records, plan.sessions))
    for table in tables(plan.outline, plan.placements, plan.records, derive):
        paper.table(table)


@dataclass(frozen=True)
class _Strip:
    """One column of text with its style; the first line is the header."""

    header: str
    texts: Sequence[str]
    bold: frozenset[int] = frozenset()
    style: str = ""

    @property
    def width(self) -> int:
        return max(map(cell_len, (self.header, *self.texts))) + GAP


class _Paper:
    """Prints through rich, without its markup, and without what the console can't encode."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.shown: list[Table] = []
        self._plain = not console.encoding.lower().startswith("utf")

    def text(self, words: str, style: str = "") -> Text:
        if self._plain:
            words = (
                words.translate(ASCII)
                .encode(self.console.encoding, "replace")
                .decode(self.console.encoding)
            )
        return Text(words, style=style)

    def line(self, words: str, style: str = "", indent: int = 0) -> None:
        text = self.text(one_line(words, sys.maxsize), style)
        self.console.print(Padding(text, (0, 0, 0, indent), expand=False), highlight=False)

    def notes(self, lines: Iterable[str]) -> None:
        for words in lines:
            self.line(words, "dim", INDENT)

    def table(self, table: Table) -> None:
        self.shown.append(table)
        self.console.print()
        self.line(table.title, "bold")
        for axis, label in table.labels.items():
            self.line(f"{axis}: {label}", indent=INDENT)
        first, rest = _leading(table), [_strips(table, i) for i in range(len(table.columns))]
        for part, strips in enumerate(_fitting(first, rest, self.console.width)):
            if part:
                self.console.print()
            self.console.print(self._grid(first + strips, table.rows), highlight=False)
        self.notes(table.notes)

    def _grid(self, strips: Sequence[_Strip], rows: Sequence[Row]) -> Grid:
        grid = Grid(box=None, show_edge=False, pad_edge=False, padding=(0, GAP, 0, 0))
        for i, strip in enumerate(strips):
            grid.add_column(
                self.text(strip.header),
                justify="right" if i else "left",
                no_wrap=i > 0,
                overflow="fold",
                header_style="bold",
            )
        for r, row in enumerate(rows):
            grid.add_row(
                *(self.text(s.texts[r], "bold" if r in s.bold else s.style) for s in strips),
                style="dim" if row.role == "control" else None,
            )
        return grid


def _leading(table: Table) -> list[_Strip]:
    """Return the columns that every part of a table repeats: method, n, and what went wrong."""
    rows = table.rows
    labels = [one_line(row.method) + (f" ({row.role})" if row.role else "") for row in rows]
    strips = [
        _Strip("method", labels),
        _Strip("n", [f"{row.ok}/{row.planned}" for row in rows]),
    ]
    if any(row.statuses for row in rows):
        strips.append(_Strip("not ok", [spell(row.statuses) for row in rows], style="red"))
    return strips


def _strips(table: Table, index: int) -> list[_Strip]:
    """Return the columns of one metric: its values, and its changes against the baseline."""
    column: Column = table.columns[index]
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
    strips = [_Strip(f"{column.label}{unit} {arrow}{mark[1]}", values, best)]
    if table.baseline is not None and any(entry.change for entry in entries):
        base = next((e for e, r in zip(entries, table.rows, strict=True) if r.role == "baseline"))
        changes = [_change(entry, base, scale) for entry in entries]
        strips.append(_Strip("ratio" if column.relative else "Δ", changes))
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


def _fitting(
    first: Sequence[_Strip], rest: Iterable[list[_Strip]], width: int
) -> Iterator[list[_Strip]]:
    """Part the metrics so that each part fits beside the leading columns."""
    room = width - min(first[0].width, width // 3) - sum(strip.width for strip in first[1:])
    part: list[_Strip] = []
    for strips in rest:
        if part and sum(strip.width for strip in part + strips) - GAP > room:
            yield part
            part = []
        part = part + strips
    yield part


@contextmanager
def _unbounded(console: Console) -> Iterator[None]:
    """Let lines be as long as they need to be where no terminal wraps them."""
    width = console.width
    try:
        if not console.is_terminal:
            console.width = 1_000_000
        yield
    finally:
        if not console.is_terminal:
            console.width = width
