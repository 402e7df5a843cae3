"""`sketchbench predict`: peak bytes of every method, without running it and without a GPU."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from sketchbench.cli import selection, telling

if TYPE_CHECKING:
    from sketchbench.execute.questions import Question
    from sketchbench.report.paper import Plain

TIMEOUT = 600.0
LIMIT = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    default=TIMEOUT,
    show_default=True,
    help="Give a method up after S seconds.",
)


@click.command(name="predict")
@selection.selecting
@LIMIT
def command(wanted: selection.Selection, timeout: float) -> None:
    """Predict the peak bytes of SUITE's methods, by what they are for.

    Nothing is trained, no data are read: shapes are real, values don't exist. The device need not
    be here. Exit status: 0 if every method was predicted and fits the device, 1 otherwise, 2 if
    the request was wrong.
    """
    from sketchbench.execute.questions import questions
    from sketchbench.report import predictions

    chosen = selection.choose(wanted, absent=True)
    room = selection.device_bytes(chosen.device)
    found = answers("predict", questions(chosen.suite.cells), chosen, timeout)
    paper = written()
    paper.line(
        f"{chosen.suite.name}: predicted peak bytes of one step, by what they are for", "bold"
    )
    paper.line(predictions.device(chosen.device, room))
    placed = by_experiment(found)
    for experiment, by_method in placed.items():
        baselines = {label: baseline(chosen, experiment, label) for label in by_method}
        predictions.show(paper, experiment, by_method, baselines, room)
    paper.line()
    paper.notes(predictions.LEGEND)
    unfit = predictions.unfit(placed, room)
    for text in unfit:
        click.echo(f"warning: {text}", err=True)
    failed = any(answer["status"] != "ok" for answer in found.values())
    raise SystemExit(1 if failed or unfit else 0)


def written() -> Plain:
    """Return the paper that standard output is."""
    from sketchbench.report.paper import Plain, Screen
    from sketchbench.report.progress import console

    screen = console()
    return Screen(screen) if screen.is_terminal else Plain(screen)


def answers(
    what: Any, asked: list[Question], chosen: selection.Chosen, timeout: float
) -> dict[Question, dict[str, Any]]:
    """Ask about every method in child processes, with a line on standard error at a terminal."""
    from sketchbench.execute.isolated import Isolated
    from sketchbench.execute.questions import ask

    device = "cpu" if what == "predict" else chosen.device
    found: dict[Question, dict[str, Any]] = {}
    begun = time.monotonic()

    def watch(running: Sequence[Question]) -> None:
        seconds = time.monotonic() - begun
        names = ", ".join(question.cell.label or question.cell.experiment for question in running)
        _replace(f"{what}: {len(found)}/{len(asked)} done, {seconds:.0f} s; at work on {names}")

    with telling.told(), Isolated(device, chosen.registry.quarantined) as runner:
        threads = chosen.keys.threads
        try:
            for question, answer in ask(what, asked, runner, threads, timeout, chosen.jobs, watch):
                found[question] = answer
        finally:
            _replace("")
    return {question: found[question] for question in asked}


def _replace(line: str) -> None:
    """Write a line over the last one, where standard error is a terminal."""
    if sys.stderr.isatty():
        import shutil

        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[K{line[:width]}")
        sys.stderr.flush()


def by_experiment(found: dict[Question, dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the answers by experiment and label, in the order of the suite."""
    placed: dict[str, dict[str, dict[str, Any]]] = {}
    for question, answer in found.items():
        for cell in question.cells:
            placed.setdefault(cell.experiment, {})[cell.label] = answer
    return placed


def baseline(chosen: selection.Chosen, experiment: str, label: str) -> str | None:
    """Return the label of the baseline of a method: equal in every axis but the method's."""
    found = next(each for each in chosen.suite.experiments if each.name == experiment)
    cell = next(c for c in chosen.suite.cells if c.experiment == experiment and c.label == label)
    axis, name = found.method_axis, found.baseline
    if name is None or axis is None or axis not in cell.axes:
        return None
    return " · ".join({**cell.axes, axis: name}.values())
