"""`sketchbench plan`: what `run` would do, without doing any of it."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import click

from sketchbench.cli import selection, telling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sketchbench.execute.schedule import Job


@click.command(name="plan")
@selection.selecting
def command(wanted: selection.Selection) -> None:
    """Show the cells of SUITE, which are done, and how long the rest will take."""
    from sketchbench.execute import schedule
    from sketchbench.store import FILE, Store

    chosen = selection.choose(wanted)
    with telling.told():
        records, history = {}, {}
        results = wanted.results
        if (results if results.suffix == ".sqlite" else results / FILE).exists():
            with Store.open(results) as store:
                keys = {chosen.keys.of(cell) for cell in chosen.suite.cells}
                records = store.newest(keys, light=True)
                history = store.durations()
        planned = schedule.plan(chosen.suite, records, chosen.keys)
    lines = [
        *_cells(planned, records, history),
        *_totals(planned, records, history, wanted.jobs),
        *_decidable(planned),
    ]
    click.echo("\n".join(lines))


def _cells(planned: Sequence[Job], records: Any, history: Any) -> list[str]:
    """Return one line per method: its cells, by what becomes of each."""
    states: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for job in planned:
        for cell in job.cells:
            states[cell.experiment, cell.label][_state(job, records, history)] += 1
    lines, shown = [], None
    width = max((len(label) for _, label in states), default=0)
    for (experiment, label), counts in sorted(states.items(), key=lambda item: item[0][0]):
        if experiment != shown:
            lines.append(experiment)
            shown = experiment
        told = ", ".join(f"{count} {state}" for state, count in counts.items())
        lines.append(f"  {label or '(one)':<{width}}  {told}")
    return lines


def _state(job: Job, records: Any, history: Any) -> str:
    if not job.stages:
        return "done"
    if job.record is not None:
        return f"done but for its {' and '.join(job.stages)} pass"
    if job.key in records:
        return f"to run again ({records[job.key].status})"
    if job.cell.id in history:
        return "to run again (code, versions or threads changed)"
    return "to run"


def _totals(planned: Sequence[Job], records: Any, history: Any, width: int) -> list[str]:
    from sketchbench.report.plans import cells, duration

    left = [job for job in planned if job.stages]
    known = [history[j.cell.id] for j in left if j.cell.id in history]
    line = f"{cells(len(planned))}: {len(planned) - len(left)} done, {len(left)} to run"
    if not left:
        return [line]
    if not known:
        return [line + "; time unknown: none of them has run here yet"]
    guess = sum(known) / len(known) * len(left) / width
    based = f"from {len(known)} earlier record{'s' if len(known) > 1 else ''}"
    return [f"{line}; about {duration(guess)} ({based})"]


def _decidable(planned: Sequence[Job]) -> list[str]:
    from sketchbench import statistics

    seeds = len({job.cell.seed for job in planned})
    if seeds < 2:
        return ["1 seed: no interval, so no difference between methods can be decided"]
    width = statistics.decidable(seeds)
    return [
        f"{seeds} seeds: a paired difference is decided where it exceeds {width:.2g} of its own "
        "standard deviations"
    ]
