"""`sketchbench plan`: what `run` would do, without doing any of it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

import click

from sketchbench.cli import selection, telling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sketchbench.execute.schedule import Job

MOST = 32  # methods that are predicted, each in a process of its own
TIMEOUT = 60.0  # seconds that the prediction of one may take


@click.command(name="plan")
@selection.selecting
@click.option("--no-predict", is_flag=True, help="Don't predict the peak bytes of what is to run.")
def command(wanted: selection.Selection, no_predict: bool) -> None:
    """Show the cells of SUITE, which are done, and what time and memory the rest will take."""
    from sketchbench.execute import schedule
    from sketchbench.report.ranks import LEGEND, break_evens
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
    told = {} if no_predict else _peaks(planned, chosen)
    ranks = break_evens(chosen.suite.cells)
    lines = [
        *_cells(planned, records, history, told or {}, ranks),
        *_totals(planned, records, history, wanted.jobs),
        *_decidable(planned),
        *([LEGEND] if ranks else []),
    ]
    if told is None:
        lines.append(f"more than {MOST} methods to run: `sketchbench predict` tells their bytes")
    click.echo("\n".join(lines))


def _peaks(planned: Sequence[Job], chosen: selection.Chosen) -> dict[tuple[str, str], str] | None:
    """Return peak bytes by method: predicted for those to run; None where these are many.

    What is too much for the device is told on standard error.
    """
    from sketchbench.cli import predict
    from sketchbench.execute.questions import questions
    from sketchbench.report import predictions

    told = {
        (cell.experiment, cell.label): text
        for job in planned
        for text in [_measured(job)]
        if text
        for cell in job.cells
    }
    asked = questions(cell for job in planned if job.stages for cell in job.cells)
    if len(asked) > MOST:
        return None
    if not asked:
        return told
    answers = predict.answers("predict", asked, chosen, TIMEOUT)
    placed = predict.by_experiment(answers)
    for experiment, by_method in placed.items():
        told |= {(experiment, label): predictions.brief(a) for label, a in by_method.items()}
    for text in predictions.unfit(placed, selection.device_bytes(chosen.device)):
        click.echo(f"warning: {text}", err=True)
    return told


def _measured(job: Job) -> str:
    """Phrase the measured peak of a job that is done, if it has one."""
    from sketchbench.report.predictions import spelt

    measured = job.record.measurements if job.record is not None and not job.stages else ()
    peaks = [m.value for m in measured if m.metric == "peak_bytes" and math.isfinite(m.value)]
    return f"measured peak {spelt(max(peaks))}" if peaks else ""


def _cells(
    planned: Sequence[Job],
    records: Any,
    history: Any,
    peaks: dict[tuple[str, str], str],
    ranks: dict[str, list[str]],
) -> list[str]:
    """Return one line per method: its cells, by what becomes of each, and its peak bytes.

    After an experiment's methods come the break-even ranks of its optimizers.
    """
    states: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for job in planned:
        for cell in job.cells:
            states[cell.experiment, cell.label][_state(job, records, history)] += 1
    lines = []
    width = max((len(label) for _, label in states), default=0)
    for experiment in sorted({name for name, _ in states}):
        lines.append(experiment)
        for (name, label), counts in states.items():
            if name == experiment:
                told = ", ".join(f"{count} {state}" for state, count in counts.items())
                peak = peaks.get((name, label), "")
                lines.append(f"  {label or '(one)':<{width}}  {told}{peak and f'; {peak}'}")
        lines += [f"  {line}" for line in ranks.get(experiment, ())]
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
