"""Advice: signatures of failure in a comparison, and what to try next.

The signatures are those that the notes on arXiv 2510.00442 list. Where what was measured here says
otherwise, the advice does too:

1. The notes find β too low where estimates are unstable. With an EMA over shuffled batches the
   bias grows with β, at frozen weights already, and in whatever order batches come: lower it. Only
   the full batch, in which a row stays the same sample, has the coherence that they assume.
2. The notes blame the framework where no memory is saved. What is held has a name: ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sketchbench.report.groups import Column, Group, Reading
from sketchbench.report.notes import names
from sketchbench.statistics import Ratio

if TYPE_CHECKING:
    from sketchbench.kinds import ActivationSketch

Resolve = Callable[[Mapping[str, Any]], "ActivationSketch | None"]
Readings = Mapping[Column, Mapping[str, Mapping[int, Reading]]]

GAP = 0.05  # of accuracy below the baseline [the notes' 5 %]
COSINE = 0.5  # our choice: less is more wrong than right
BIAS = 0.25  # our choice: half of the gradient's norm
VARIANCE = 10.0  # our choice, in variances of the baseline
TAIL = 0.5  # our choice: a diagonal that is more than all that a covariance sketch keeps
SCATTER = 1.0  # our choice, where the baseline has none: as large as the mean gradient's square
SIZES = ("columns", "rank", "bits", "groups", "count", "fraction")  # of what a sketch keeps


@dataclass(frozen=True)
class Method:
    """A method that isn't the baseline or the control, and what its cells are made of."""

    label: str
    activation: Mapping[str, Any]
    workload: Mapping[str, Any]

    @property
    def size(self) -> str:
        """How much its sketch keeps, in words; nothing where no field says it."""
        field = next((n for n in SIZES if isinstance(self.activation.get(n), (int, float))), None)
        return f"{field} {self.activation[field]:g}" if field else ""

    @property
    def memory(self) -> str:
        """How long its EMA remembers, in words; nothing where it has none."""
        beta = self.activation.get("beta")
        return f"beta {beta:g}" if beta and isinstance(beta, (int, float)) else ""


def of(group: Group, readings: Readings, resolve: Resolve | None = None) -> list[str]:
    """Return a line for each signature that some method of the group shows.

    `resolve` makes an activation sketch of its configuration, to be asked for its break-even.
    """
    if group.baseline not in group.methods:
        return []
    methods = list(_methods(group))
    return [
        *_inaccurate(group, readings, methods),
        *_unstable(group, readings, methods),
        *_saving_nothing(group, readings, methods, resolve),
        *_escaping(group, readings),
    ]


def _methods(group: Group) -> Iterator[Method]:
    """Yield the methods with an activation sketch, as their first record has it."""
    for label, by_seed in group.methods.items():
        record = next((cell.record for cell in by_seed.values() if cell.record), None)
        workload = record.config.get("workload", {}) if record else {}
        activation = workload.get("activation")
        if activation and label not in (group.baseline, group.control):
            yield Method(label, activation, workload)


def _inaccurate(group: Group, readings: Readings, methods: Sequence[Method]) -> Iterator[str]:
    """Tell of sketches of some size whose accuracy is more than `GAP` below the baseline's."""
    for column, by_method in _columns(readings, "accuracy"):
        found = []
        for method in methods:
            gap = column.compare(by_method[method.label], by_method[str(group.baseline)])
            if method.size and gap.n and gap.value < -GAP and gap.undecided() is not True:
                found.append(f"{method.label} ({method.size}, {-gap.value:.2g} below)")
        if found:
            yield (
                f"{column.label} more than {GAP:g} below '{group.baseline}': {names(found)}; raise "
                "that, and see whether gradient_cosine rises with it"
            )


def _unstable(group: Group, readings: Readings, methods: Sequence[Method]) -> Iterator[str]:
    """Tell of sketches with an EMA whose gradients point elsewhere, are biased, or scatter."""
    found, mixed = [], False
    for method in methods:
        signs = [*_signs(group, readings, method)] if method.memory else []
        if signs:
            found.append(f"{method.label} ({method.memory}: {', '.join(signs)})")
            mixed |= method.workload.get("batching", "shuffled") != "full"
    if found:
        other = ", or train on the full batch (batching: full)" if mixed else ""
        yield (
            f"unstable gradients with an EMA: {names(found)}; lower beta{other}; where 0 is no "
            "better, it isn't the EMA"
        )


def _signs(group: Group, readings: Readings, method: Method) -> Iterator[str]:
    """Yield what is wrong with a method's gradients."""
    for name in ("gradient_cosine", "cosine"):
        for column, by_method in _columns(readings, name):
            value = column.estimate(by_method[method.label]).value
            if value < COSINE:
                yield f"{column.label} {value:.2g}"
    for column, by_method in _columns(readings, "gradient_bias"):
        value = column.estimate(by_method[method.label]).value
        if value > BIAS:
            yield f"{column.label} {value:.2g}"
    for column, by_method in _columns(readings, "gradient_variance"):
        mine, base = by_method[method.label], by_method[str(group.baseline)]
        change, value = column.compare(mine, base), column.estimate(mine).value
        if isinstance(change, Ratio) and change.value > VARIANCE:
            yield f"{column.label} {change.value:.2g} times that of '{group.baseline}'"
        elif not change.n and column.estimate(base).value == 0 and value > SCATTER:
            yield f"{column.label} {value:.2g}, and 0 of '{group.baseline}'"


def _saving_nothing(
    group: Group, readings: Readings, methods: Sequence[Method], resolve: Resolve | None
) -> Iterator[str]:
    """Tell of sketches that keep no fewer bytes for the backward pass than the baseline."""
    for column, by_method in _columns(readings, "activation_bytes"):
        found = []
        for method in methods:
            change = column.compare(by_method[method.label], by_method[str(group.baseline)])
            if not (isinstance(change, Ratio) and change.n and change.value >= 1):
                continue
            stated = _break_even(method, resolve)
            if method.size or stated:
                found.append(f"{method.label} ({', '.join([f'{change.value:.3g} ×', *stated])})")
        if found:
            yield (
                f"{column.label} no less than those of '{group.baseline}': {names(found)}; "
                "`sketchbench audit SUITE` names the tensors that are held, and by whom"
            )


def _escaping(group: Group, readings: Readings) -> Iterator[str]:
    """Tell of covariance sketches, the baseline too, whose diagonal is most of what they have."""
    shares = (*_columns(readings, "tail_share"), *_columns(readings, "escaped_share"))
    for column, by_method in shares:
        values = {label: column.estimate(by_method[label]) for label in group.methods}
        found = [
            f"{label} ({share.value:.2g})"
            for label, share in values.items()
            if label != group.control and share.value > TAIL
        ]
        if found:
            yield (
                f"{column.label} above {TAIL:g}, so little but a multiple of the identity: "
                f"{names(found)}; raise the rank, or let the sketch decay (beta2 below 1)"
            )


def _break_even(method: Method, resolve: Resolve | None) -> list[str]:
    """Return what a recipe states of the rows from which it saves, if it does, in words.

    Rows are those that reach a layer: `batch_size` of them in an MLP, unless the batch is full, and
    more than that in a model that takes sequences or derivatives.
    """
    model = method.workload.get("model") or {}
    width = _width(model)
    try:
        recipe = resolve(method.activation) if resolve and width else None
        rows = recipe.break_even(width) if recipe else None
    except Exception as error:  # a plugin's mistake costs its break-even, not the report
        return [f"its break-even failed with {type(error).__name__}: {error}"]
    if rows is None:
        return []
    stated = [f"states to save from {rows} rows a layer at width {width}"]
    batch = method.workload.get("batch_size")
    plain = model.get("use") == "mlp" and method.workload.get("batching") != "full"
    return [*stated, f"batch_size is {batch}"] if plain and batch else stated


def _width(model: Mapping[str, Any]) -> int:
    """Return a model's largest width, as far as its fields say it; else 0."""
    stated = model.get("hidden") or model.get("width")
    widths = stated if isinstance(stated, (list, tuple)) else [stated]
    return max((width for width in widths if isinstance(width, int)), default=0)


def _columns(
    readings: Readings, name: str
) -> Iterator[tuple[Column, Mapping[str, Mapping[int, Reading]]]]:
    """Yield the columns of a metric, with whatever parameters and at whatever place."""
    for column, by_method in readings.items():
        if column.metric.partition("(")[0] == name:
            yield column, by_method
