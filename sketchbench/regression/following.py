"""What is followed of an experiment: its cells by readable labels, and numbers by their names."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

JOIN = " · "  # between the labels of a cell
MARK = " #"  # before the digest of its definition
# Parts of a metric that are tracked, besides or instead of the whole; a method may lack some.
PARTS: Mapping[str, Sequence[str]] = {
    "step_time": ("cpu",),
    "adjoint_time": ("cpu",),
    "apply_time": ("cpu",),
    "build_time": ("cpu",),
    "peak_bytes": ("", "activations", "sketches", "optimizer_state", "gradients"),
    "activation_bytes": ("", "sketches"),
    "state_bytes": ("", "sketch", "preconditioner", "second_moment"),
}
# Units by a metric's last word.
UNITS = {
    "bytes": "bytes",
    "time": "s",
    "flops": "FLOP",
    "loss": "nats",
    "error": "fraction",
    "regret": "nats",
}
# Fractions of which more is better, and the name of what is left of 1.
ERRORS = {"accuracy": "error", "rank_correlation": "rank_error"}
RATIO = "step_time"  # whose wall time is also told as a multiple of the baseline's


@dataclass(frozen=True)
class Series:
    """One number of each cell of an experiment, followed over commits."""

    name: str
    unit: str
    metric: str
    part: str = ""
    relative: bool = False  # to the baseline's, in the same run


def series(experiment: Mapping[str, Any]) -> list[Series]:
    """Return what is followed of an experiment's metrics.

    Raises `ValueError` where one has options, or is measured at several places.
    """
    found: list[Series] = []
    for written in experiment["metrics"]:
        if not isinstance(written, str):
            raise ValueError(
                f"{experiment['name']}: metrics are followed by name; {written} is not"
            )
        metric = written.partition("@")[0]
        if any(metric == each.metric for each in found):
            raise ValueError(f"{experiment['name']}: '{metric}' is followed at one place alone")
        unit = UNITS.get(metric.rpartition("_")[2], "1")
        if metric in ERRORS:
            found.append(Series(ERRORS[metric], "1", metric))
            continue
        for part in PARTS.get(metric, ("",)):
            found.append(Series(f"{metric}_{part}" if part else metric, unit, metric, part))
        if metric == RATIO and "baseline" in experiment:
            found.append(Series(f"{metric}_ratio", "of the baseline", metric, relative=True))
    return found


def labels(experiment: Mapping[str, Any]) -> list[str]:
    """Return the labels of an experiment's cells, in order, as reports show them."""
    axes = [[str(label) for label in axis] for axis in experiment["matrix"].values()]
    return [JOIN.join(each) for each in itertools.product(*axes)]


def parameters(experiment: Mapping[str, Any]) -> list[str]:
    """Return a cell's label and the digest of its definition, for each: one name, one history."""
    cells = itertools.product(*(axis.values() for axis in experiment["matrix"].values()))
    named = zip(labels(experiment), cells, strict=True)
    return [f"{label}{MARK}{digest(cell)[:4]}" for label, cell in named]


def experiments_in(folder: Path) -> Iterator[tuple[Path, dict[str, Any], dict[str, Any]]]:
    """Yield (file, suite, experiment) of the suites in a folder, in order.

    Raises `ValueError` where an experiment's cells have no labels.
    """
    for path in sorted(folder.glob("*.yaml")):
        suite = yaml.safe_load(path.read_text())
        for experiment in suite["experiments"]:
            axes = experiment.get("matrix")
            if not isinstance(axes, dict) or not all(isinstance(a, dict) for a in axes.values()):
                said = "expected a mapping of paths to labelled values"
                raise ValueError(f"{path.name}: '{experiment['name']}', matrix: {said}")
            yield path, suite, experiment


def baseline_of(experiment: Mapping[str, Any], label: str) -> str:
    """Return the label of the cell that a cell is compared with: its group's baseline."""
    axes = zip(experiment["matrix"].values(), label.split(JOIN), strict=True)
    name = experiment["baseline"]
    return JOIN.join(name if name in map(str, axis) else own for axis, own in axes)


def digest(what: Any) -> str:
    """Return the hexadecimal SHA-256 of a value, whatever the order of its mappings."""
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
