"""`sketchbench run`: measure the cells of a suite that have no sound record yet."""

from __future__ import annotations

import datetime
import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from sketchbench.cli import selection, telling

if TYPE_CHECKING:
    from sketchbench.records import Placement

TIMEOUT = 3600.0


@click.command(name="run")
@selection.selecting
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help=f"Kill a pass after S seconds (else the suite's, else {TIMEOUT:g}).",
)
@click.option("--here", is_flag=True, help="In this process, for a debugger: no isolation.")
@click.option("--force", is_flag=True, help="Measure every cell again.")
def command(wanted: selection.Selection, timeout: float | None, here: bool, force: bool) -> None:
    """Measure SUITE, and show what came out.

    Runs only the cells whose record is missing, failed, or older than the code. Exit status: 0 if
    all cells are ok or skipped and at least one is ok, 1 otherwise, 2 if the request was wrong,
    130 if interrupted.
    """
    if here and (wanted.jobs > 1 or timeout is not None):
        telling.fail("--here: one cell at a time and no timeout; drop --jobs and --timeout")
    chosen = selection.choose(wanted)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    with telling.told():
        status = _measure(chosen, wanted.results, timeout, here, force)
    raise SystemExit(status)


def _interrupted(number: int, frame: FrameType | None) -> None:
    """End the run in good order; further signals don't disturb that."""
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, signal.SIG_IGN)
    raise KeyboardInterrupt


def _measure(
    chosen: selection.Chosen, results: Path, timeout: float | None, here: bool, force: bool
) -> int:
    from sketchbench import environment
    from sketchbench.execute import schedule
    from sketchbench.report import terminal
    from sketchbench.report.progress import Progress, console
    from sketchbench.store import Store

    suite, keys = chosen.suite, chosen.keys
    with Store.open(results, create=True) as store:
        jobs = schedule.plan(
            suite, store.newest({keys.of(cell) for cell in suite.cells}), keys, force
        )
        facts = environment.describe(_distributions(chosen)) | {
            "device": chosen.device,
            "threads": keys.threads,
            "jobs": chosen.jobs,
            "suite": str(suite.path),
            "command": selection.same_call(),
        }
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        session = store.begin_session(started, environment.machine(), facts)
        store.place(
            suite.name,
            suite.selection,
            session,
            suite.outline(),
            _placements(chosen),
            whole=suite.whole,
        )
        records = {job.key: job.record for job in jobs if not job.stages}
        interrupted = False
        with Progress(suite, jobs, chosen.jobs) as progress, _runner(chosen, here) as runner:
            work = schedule.Schedule(
                runner,
                store,
                session,
                keys,
                progress,
                chosen.registry.stored,
                chosen.jobs,
                timeout or suite.timeout or TIMEOUT,
            )
            try:
                work.run(jobs)
            except KeyboardInterrupt:
                interrupted = True
            records |= progress.records
        screen = console()
        if interrupted:
            click.echo(f"interrupted; finish with: {selection.same_call()}", err=True)
            return 130
        derive, resolve = telling.resolver(chosen.registry)
        terminal.show(store, suite.name, screen, derive, suite.selection, resolve)
        screen.print(f"results: {store.path}", highlight=False, soft_wrap=True)
    statuses = [record.status for record in records.values() if record]
    return 0 if set(statuses) <= {"ok", "skipped"} and "ok" in statuses else 1


def _distributions(chosen: selection.Chosen) -> list[str]:
    return [found.distribution for found in chosen.registry.plugins.values() if found]


def _placements(chosen: selection.Chosen) -> list[Placement]:
    from sketchbench.store import Placement

    return [
        Placement(cell.experiment, dict(cell.axes), cell.seed, cell.id, chosen.keys.of(cell))
        for cell in chosen.suite.cells
    ]


def _runner(chosen: selection.Chosen, here: bool) -> Any:
    if here:
        from sketchbench.execute.here import Here

        return Here(chosen.registry)
    from sketchbench.execute.isolated import Isolated

    return Isolated(chosen.device, chosen.registry.quarantined)
