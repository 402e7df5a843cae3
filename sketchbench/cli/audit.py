"""`sketchbench audit`: which tensors each module keeps for the backward pass."""

from __future__ import annotations

import click

from sketchbench.cli import predict, selection


@click.command(name="audit")
@selection.selecting
@click.option("--depth", type=click.IntRange(1), metavar="N", help="Levels of modules; else all.")
@predict.LIMIT
def command(wanted: selection.Selection, depth: int | None, timeout: float) -> None:
    """Show which module of each method of SUITE keeps which tensor for the backward pass.

    A line a tensor: the operation that made it, its shape and type, its bytes. It counts once,
    under the first module that saves it, and once more in the totals of the modules around that
    one; `also kept by` names others that save it, where it is `counted under` the first: freeing
    one of them alone frees nothing. `held, but not as a saved tensor` is alive when the backward
    begins for another reason: an attribute, a closure, a reference. Neighbours that keep the same
    are shown once (`as` the first). The last words of a method compare it with its baseline.

    A few steps of each method are run, on its data. Exit status: 0 if every method was audited,
    1 otherwise, 2 if the request was wrong.
    """
    from sketchbench.execute.questions import questions
    from sketchbench.report import keepings

    chosen = selection.choose(wanted)
    found = predict.answers("audit", questions(chosen.suite.cells), chosen, timeout)
    paper = predict.written()
    failed = False
    for name, by_method in predict.by_experiment(found).items():
        paper.line()
        paper.line(name, "bold")
        for label, answer in by_method.items():
            if answer["status"] != "ok":
                failed = True
                paper.line()
                paper.line(f"{label or '(one)'}: {answer['status']}: {answer['reason']}")
                continue
            base = by_method.get(predict.baseline(chosen, name, label) or "", {}).get("found", {})
            against = base.get("total") if base is not answer["found"] else None
            keepings.show(paper, label or "(one)", answer["found"], against, depth)
    raise SystemExit(1 if failed else 0)
