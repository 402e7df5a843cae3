"""Progress of a schedule: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sketchbench.report.plans import cells, duration

if TYPE_CHECKING:
    from sketchbench.execute.schedule import Job
    from sketchbench.records import Record
    from sketchbench.suite import Suite


def console() -> Console:
    """Return the console of standard output; where that is no terminal, nothing wraps."""
    if sys.stdout.isatty():
        return Console()
    return Console(width=10_000, no_color=True, highlight=False)


class Progress:
    """Watches a schedule: cells done, cells running with their last news, remaining time."""

    def __init__(self, suite: Suite, jobs: Sequence[Job], width: int) -> None:
        self.records: dict[str, Record] = {}
        self._console = console()
        self._live: Live | None = None
        self._todo = [job for job in jobs if job.stages]
        self._total = len(jobs)
        self._width = width
        self._begun = time.monotonic()
        self._running: dict[int, tuple[Job, float, str]] = {}
        self._counts: Counter[str] = Counter()
        self._reasons: set[str] = set()
        self._note = "starting" if self._todo else ""
        self._head(suite)

    def __enter__(self) -> Self:
        if self._todo and self._console.is_terminal:
            self._live = Live(self, console=self._console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    # ------------------------------------------------------------ what the schedule tells

    def preparing(self, task: str, text: str) -> None:
        """Show what a task fetches."""
        self._note = f"{task}: {text}"
        if not self._live:
            self._line(self._note)

    def started(self, job: Job) -> None:
        """Show a cell among those running."""
        self._note = ""
        self._running[id(job)] = (job, time.monotonic(), "")

    def news(self, job: Job, news: Mapping[str, Any]) -> None:
        """Show what a running cell delivered last."""
        _, begun, _ = self._running[id(job)]
        values = ", ".join(f"{name} {value:.4g}" for name, value in news.get("values", {}).items())
        at = "" if news.get("at") is None else f"at {news['at']:g}: "
        self._running[id(job)] = (job, begun, f"{at}{values}")

    def ended(self, job: Job, record: Record) -> None:
        """Count a cell as done, and print its line."""
        self._running.pop(id(job), None)
        self.records[job.key] = record
        self._counts[record.status] += 1
        done = f"[{len(self.records)}/{len(self._todo)}]"
        told = record.reason in self._reasons
        self._reasons.add(record.reason)
        reason = f": {'as above' if told else record.reason}" if record.reason else ""
        left = f", {duration(self._left())} left" if self._left() else ""
        line = f"{done} {_named(job)}  {record.status}{reason}  {record.seconds:.1f} s{left}"
        if not self._live or record.status != "ok":
            self._line(line)

    def warning(self, text: str) -> None:
        """Print a warning."""
        self._line(f"warning: {text}")

    # ------------------------------------------------------------ what is drawn

    def __rich__(self) -> Group:
        done, todo = len(self.records), len(self._todo)
        bar = Table.grid(padding=(0, 1))
        told = ", ".join(f"{count} {status}" for status, count in self._counts.items())
        left = self._left()
        bar.add_row(
            ProgressBar(total=todo, completed=done, width=30),
            f"{done}/{todo} cells",
            told,
            f"{duration(left)} left" if left else "",
            f"{duration(time.monotonic() - self._begun)} so far",
        )
        table = Table.grid(padding=(0, 2))
        for job, begun, text in self._running.values():
            elapsed = duration(time.monotonic() - begun)
            table.add_row(Text(_named(job)), job.stage, elapsed, Text(text))
        note = [Text(self._note)] if self._note else []
        return Group(bar, *note, table)

    def _head(self, suite: Suite) -> None:
        title = f"{suite.name}: {suite.title}" if suite.title else suite.name
        chosen = f" ({suite.selection})" if suite.selection else ""
        self._line(f"{title}{chosen}")
        kept = self._total - len(self._todo)
        had = f", {kept} already measured" if kept else ""
        self._line(f"{cells(self._total)}{had}, {len(self._todo)} to run")

    def _line(self, text: str) -> None:
        self._console.print(escape(text), highlight=False, soft_wrap=True)

    def _left(self) -> float:
        """Return the estimated seconds left: cells of one experiment take about as long."""
        spent: dict[str, list[float]] = {}
        for job in self._todo:
            if job.key in self.records:
                spent.setdefault(job.cell.experiment, []).append(self.records[job.key].seconds)
        if not spent:
            return 0.0
        means = {name: sum(each) / len(each) for name, each in spent.items()}
        overall = sum(means.values()) / len(means)
        left = [job for job in self._todo if job.key not in self.records]
        return sum(means.get(job.cell.experiment, overall) for job in left) / self._width


def _named(job: Job) -> str:
    label = f" · {job.cell.label}" if job.cell.axes else ""
    return f"{job.cell.experiment}{label} · seed {job.cell.seed}"
