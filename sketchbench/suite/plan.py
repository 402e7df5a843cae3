"""Plans: an experiment with its axes, metrics and roles, before any point is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sketchbench.kinds import Workload
from sketchbench.recipe import Lookup, suggest
from sketchbench.suite.axes import MatrixReading
from sketchbench.suite.cells import Experiment
from sketchbench.suite.form import ExperimentForm, Override
from sketchbench.suite.matrix import Matrix, Point
from sketchbench.suite.metrics import MetricReading
from sketchbench.suite.mistakes import Mistakes, Place
from sketchbench.suite.nodes import Scalar
from sketchbench.suite.paths import recipe_class


@dataclass(frozen=True)
class Plan:
    """An experiment and its matrix, before any point is made."""

    form: ExperimentForm
    matrix: Matrix
    experiment: Experiment
    sound: bool  # the matrix has no mistake, so that a label that is missing is one

    @property
    def place(self) -> Place:
        """Where its size is decided."""
        return self.form.matrix.place if self.form.matrix else self.form.place

    def points(
        self,
        overrides: Sequence[Override],
        lookup: Lookup,
        mistakes: Mistakes,
        hits: set[Override],
    ) -> Iterator[Point]:
        """Yield the points of the matrix over the workload; see `Matrix.points`."""
        return self.matrix.points(self.form.workload.value, overrides, lookup, mistakes, hits)


def plan(form: ExperimentForm, lookup: Lookup, mistakes: Mistakes) -> Plan:
    """Read an experiment's matrix, metrics and roles."""
    workload = form.workload.value
    owner = recipe_class(workload, Workload, lookup)
    known = owner if owner and issubclass(owner, Workload) else None
    before = len(mistakes)
    matrix = MatrixReading(workload, lookup, mistakes).matrix(form.matrix)
    sound = len(mistakes) == before
    axes = matrix.axes()
    held = {
        role: _axis_of(role, label, axes, mistakes if sound else Mistakes())
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
    metrics = MetricReading(known, lookup, mistakes).metrics(form.metrics)
    labels = [wanted.label() for wanted in metrics]
    method_axis = held.get("baseline") or held.get("control") or first
    tune = form.tune or {}
    for key, label in (("sort", form.sort), ("tune", tune.get("by"))):
        if label and labels and _text(label) not in labels:
            known_labels = suggest(str(_text(label)), labels)
            mistakes.add(label.place, f"{key}: no metric '{_text(label)}' here; {known_labels}")
    if tune and sound:
        _tunable(tune["axis"], [axis for axis in axes if axis != method_axis], mistakes)
    experiment = Experiment(
        name=form.name,
        title=form.title,
        metrics=metrics,
        axes=axes,
        method_axis=method_axis,
        baseline=_text(form.baseline),
        control=_text(form.control),
        sort=_text(form.sort),
        tune={key: str(_text(label)) for key, label in tune.items()} or None,
    )
    return Plan(form, matrix, experiment, sound)


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


def _tunable(axis: Scalar, axes: Sequence[str], mistakes: Mistakes) -> None:
    text = str(_text(axis))
    if text not in axes:
        mistakes.add(
            axis.place, f"tune: '{text}' is no axis beside the methods'; {suggest(text, axes)}"
        )


def _text(label: Scalar | None) -> str | None:
    if label is None:
        return None
    return label.text or ("null" if label.plain is None else "")
