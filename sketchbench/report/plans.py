"""Plans: what the store holds of a suite's selections, with the record that counts of each cell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sketchbench.records import STATUSES, Placement, Record, Session
from sketchbench.store import Store

NOT_RUN = "not run"


@dataclass(frozen=True)
class Plan:
    """One selection of a suite: its outline, its cells in order, and the records by cell."""

    suite: str
    selection: str
    outline: Mapping[str, Any]
    placements: Sequence[Placement]
    records: Mapping[str, Record]
    sessions: Mapping[int, Session]


def plans(store: Store, suite: str | None = None, selection: str | None = None) -> list[Plan]:
    """Return the stored plans of `suite` (default: of all), the latest run last."""
    chosen = [
        (name, picked, outline, store.placements(name, picked))
        for name, picked, outline in store.outlines()
        if suite in (None, name) and selection in (None, picked)
    ]
    keys = {placement.key for *_, placements in chosen for placement in placements}
    records, sessions = store.newest(keys), store.sessions()
    return [
        Plan(*plan, {p.cell: records[p.key] for p in plan[-1] if p.key in records}, sessions)
        for plan in chosen
    ]


def statuses(placements: Iterable[Placement], records: Mapping[str, Record]) -> dict[str, int]:
    """Count the distinct cells by status, in a fixed order; cells without a record are not run."""
    cells = {placement.cell for placement in placements}
    counts = Counter(records[cell].status if cell in records else NOT_RUN for cell in cells)
    order = [*STATUSES, *sorted(counts.keys() - {*STATUSES, NOT_RUN}), NOT_RUN]
    return {status: counts[status] for status in order if counts[status]}


def spell(counts: Mapping[str, int]) -> str:
    """Phrase counts by status: `12 ok, 2 nan, 1 not run`."""
    return ", ".join(f"{count} {status}" for status, count in counts.items())


def cells(count: int) -> str:
    """Phrase a number of cells."""
    return f"{count} cell" + ("" if count == 1 else "s")


def duration(seconds: float) -> str:
    """Phrase a duration: `42 s`, `17 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def one_line(text: str, limit: int = 300) -> str:
    """Return `text` as one printable line: no escape sequences, no line breaks, not endless."""
    joined = " ".join(text.split())
    safe = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in joined)
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"
