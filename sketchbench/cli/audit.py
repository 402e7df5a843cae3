"""`sketchbench audit`: which tensors each module keeps for the backward pass."""

from __future__ import annotations

import click

from sketchbench.cli import selection


@click.command(name="audit")
@selection.selecting
def command(wanted: selection.Selection) -> None:
    """Show which module of each method of SUITE keeps which tensor for the backward pass.

    A storage counts once, under the first module that saves it; others that save it are named.
    A few steps of each method are run, on its data. Exit status: 0 if every method was audited,
    1 otherwise, 2 if the request was wrong.
    """
    from sketchbench.cli.predict import answers, by_experiment, written
    from sketchbench.execute.questions import questions
    from sketchbench.report import keepings

    chosen = selection.choose(wanted)
    found = answers("audit", questions(chosen.suite.cells), chosen)
    paper = written()
    failed = False
    for name, by_method in by_experiment(found).items():
        paper.line()
        paper.line(name, "bold")
        for label, answer in by_method.items():
            if answer["status"] != "ok":
                failed = True
                paper.line()
                paper.line(f"{label}: {answer['status']}: {answer['reason']}")
                continue
            base = by_method.get(_baseline(chosen, name, label) or "", {}).get("found", {})
            against = base.get("total") if base is not answer["found"] else None
            keepings.show(paper, label, answer["found"], against)
    raise SystemExit(1 if failed else 0)


def _baseline(chosen: selection.Chosen, experiment: str, label: str) -> str | None:
    """Return the label of the baseline of a method: equal in every axis but the method's."""
    found = next(each for each in chosen.suite.experiments if each.name == experiment)
    cell = next(c for c in chosen.suite.cells if c.experiment == experiment and c.label == label)
    axis, baseline = found.method_axis, found.baseline
    if baseline is None or axis is None or axis not in cell.axes:
        return None
    axes = {**cell.axes, axis: baseline}
    return " · ".join(axes.values())
