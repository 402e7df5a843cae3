"""`sketchbench predict`: peak bytes of every method, without running it and without a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sketchbench.cli import selection, telling

if TYPE_CHECKING:
    from sketchbench.execute.questions import Question
    from sketchbench.report.paper import Plain

TIMEOUT = 600.0


@click.command(name="predict")
@selection.selecting
def command(wanted: selection.Selection) -> None:
    """Predict the peak bytes of SUITE's methods, by category.

    Nothing is trained, no data are read: shapes are real, values don't exist. Exit status: 0 if
    every method was predicted and fits the device, 1 otherwise, 2 if the request was wrong.
    """
    from sketchbench.execute.questions import questions
    from sketchbench.report import predictions

    chosen = selection.choose(wanted)
    found = answers("predict", questions(chosen.suite.cells), chosen)
    paper = written()
    room = selection.device_bytes(chosen.device)
    paper.line(f"{chosen.suite.name}: predicted peak bytes by what they are for", "bold")
    unfit: list[str] = []
    for experiment, by_method in by_experiment(found).items():
        unfit += predictions.show(paper, experiment, by_method, room)
    paper.line()
    paper.notes(_legend())
    for label in unfit:
        click.echo(
            f"warning: {label} needs more than the {predictions.spelt(room or 0)} of this device",
            err=True,
        )
    failed = any(answer["status"] != "ok" for answer in found.values())
    raise SystemExit(1 if failed or unfit else 0)


def written() -> Plain:
    """Return the paper that standard output is."""
    from sketchbench.report.paper import Plain, Screen
    from sketchbench.report.progress import console

    screen = console()
    return Screen(screen) if screen.is_terminal else Plain(screen)


def _legend() -> list[str]:
    return [
        "tensors of torch's CPU path; scratch memory inside kernels is not in it",
        "reserved (simulated): CUDA's caching allocator as we know it, replaying one step; "
        "not checked against a GPU",
    ]


def answers(
    what: Any, asked: list[Question], chosen: selection.Chosen, timeout: float = TIMEOUT
) -> dict[Question, dict[str, Any]]:
    """Ask about every method in child processes, with a line on standard error at a terminal."""
    from sketchbench.execute.isolated import Isolated
    from sketchbench.execute.questions import ask

    device = "cpu" if what == "predict" else chosen.device
    with telling.told(), Isolated(device, chosen.registry.quarantined) as runner:
        threads = chosen.keys.threads
        return dict(ask(what, asked, runner, threads, timeout, chosen.jobs))


def by_experiment(found: dict[Question, dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the answers by experiment and label, in the order of the suite."""
    placed: dict[str, dict[str, dict[str, Any]]] = {}
    for question, answer in found.items():
        for cell in question.cells:
            placed.setdefault(cell.experiment, {})[cell.label] = answer
    return placed
