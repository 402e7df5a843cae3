"""Expansion: every experiment's points, overridden and validated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sketchbench.kinds import Workload
from sketchbench.recipe import Lookup, suggest
from sketchbench.suite.cells import Experiment
from sketchbench.suite.check import check
from sketchbench.suite.form import ExperimentForm, Override
from sketchbench.suite.matrix import Matrix, MatrixReading, Point
from sketchbench.suite.metrics import MetricReading
from sketchbench.suite.mistakes import Mistakes, Place
from sketchbench.suite.nodes import Node, Scalar
from sketchbench.suite.paths import Found, follow, put, recipe_class


@dataclass(frozen=True)
class Plan:
    """An experiment and its matrix, before any point is made."""

    form: ExperimentForm
    matrix: Matrix
    experiment: Experiment

    @property
    def place(self) -> Place:
        """Where its size is decided."""
        return self.form.matrix.place if self.form.matrix else self.form.place

    def points(self, lookup: Lookup, mistakes: Mistakes) -> Iterator[Point]:
        """Yield the points as the file has them."""
        return self.matrix.points(self.form.workload.value, lookup, mistakes)


def plan(form: ExperimentForm, lookup: Lookup, mistakes: Mistakes) -> Plan:
    """Read an experiment's matrix, metrics and roles."""
    workload = form.workload.value
    owner = recipe_class(workload, Workload, lookup)
    known = owner if owner and issubclass(owner, Workload) else None
    matrix = MatrixReading(workload, lookup, mistakes).matrix(form.matrix)
    axes = matrix.axes()
    held = {
        role: _axis_of(role, label, axes, mistakes)
        for role, label in (("baseline", form.baseline), ("control", form.control))
        if label
    }
    if form.control and len({axis for axis in held.values() if axis}) == 2:
        mistakes.add(
            form.control.place,
            f"control: '{_text(form.control)}' is on {held['control']}, the baseline on"
            f" {held['baseline']}; both must be on one axis",
        )
    first = next(iter(axes), None)
    experiment = Experiment(
        name=form.name,
        title=form.title,
        metrics=MetricReading(known, lookup, mistakes).metrics(form.metrics),
        axes=axes,
        method_axis=held.get("baseline") or held.get("control") or first,
        baseline=_text(form.baseline),
        control=_text(form.control),
    )
    return Plan(form, matrix, experiment)


def apply(
    workload: Node, overrides: Sequence[Override], lookup: Lookup, hits: set[Override]
) -> Node:
    """Return a workload with the overrides that it has a place for; note these in `hits`."""
    for override in overrides:
        if follow(workload, override.path, lookup).field is not None:
            workload = put(workload, override.path, override.entry, lookup)
            hits.add(override)
    return workload


def refuse_axes(plans: Sequence[Plan], overrides: Sequence[Override], mistakes: Mistakes) -> None:
    """Note the overrides of what a matrix varies."""
    for override in overrides:
        for each in plans:
            for axis in (axis for axes in each.matrix.blocks for axis in axes):
                if axis.path[: len(override.path)] == override.path:
                    mistakes.add(
                        override.entry.key,
                        f"{override.name}: the matrix of '{each.form.name}' varies {axis.name};"
                        " choose among its labels with --only",
                    )


def refuse_missing(
    plans: Sequence[Plan], overrides: Sequence[Override], lookup: Lookup, mistakes: Mistakes
) -> None:
    """Note overrides that no workload has a place for, with the nearest that one has."""
    for override in overrides:
        best: list[Found] = [Found(0)]
        for each in plans:
            for point in each.points(lookup, mistakes):
                found = follow(point.workload, override.path, lookup)
                if found.depth > best[0].depth:
                    best = [found]
                elif found.depth == best[0].depth:
                    best.append(found)
        owners = {found.owner: None for found in best if found.owner}
        if not owners:  # the workload itself is wrong, or the path goes on below a number
            stop = ".".join(("workload", *override.path[: best[0].depth]))
            what = f"{stop} has no parameters" if best[0].depth else "no workload is known"
            mistakes.add(override.entry.key, f"{override.name}: {what}")
            continue
        name = override.path[best[0].depth]
        what = ", ".join(f"{owner.kind} '{owner.name}'" for owner in owners)
        known = {field for owner in owners for field in owner.model_fields}
        mistakes.add(
            override.entry.key,
            f"{override.name}: {what} has no parameter '{name}'; {suggest(name, known)}",
        )


def try_preset(
    plans: Sequence[Plan], overrides: Sequence[Override], lookup: Lookup, mistakes: Mistakes
) -> None:
    """Check a preset that isn't chosen: each of its paths, on the first point that has it."""
    missing = []
    for position, override in enumerate(overrides):
        for point in (point for each in plans for point in each.points(lookup, mistakes)):
            hits: set[Override] = set()
            workload = apply(point.workload, overrides[: position + 1], lookup, hits)
            if override in hits:
                check(Workload, workload, "workload", lookup, mistakes)  # type: ignore[type-abstract]
                break
        else:
            missing.append(override)
    refuse_missing(plans, missing, lookup, mistakes)


def _axis_of(
    role: str, label: Scalar, axes: dict[str, tuple[str, ...]], mistakes: Mistakes
) -> str | None:
    """Return the one axis that has a label."""
    text = _text(label)
    assert text is not None
    having = [axis for axis, labels in axes.items() if text in labels]
    if not having:
        known = suggest(text, {each for labels in axes.values() for each in labels})
        mistakes.add(label.place, f"{role}: the matrix has no label '{text}'; {known}")
        return None
    if len(having) > 1:
        mistakes.add(
            label.place, f"{role}: '{text}' is a label of {' and of '.join(having)}; rename one"
        )
    return having[0]


def _text(label: Scalar | None) -> str | None:
    if label is None:
        return None
    return label.text or ("null" if label.plain is None else "")
