"""Suites as asv benchmarks: a class an experiment, a parameter a cell, a tracked number a metric.

    from sketchbench.regression import benchmarks

    globals().update(benchmarks(Path("suites/tracked"), __name__))

What is measured comes through the command line of whatever version is installed, which is the
contract that old commits keep; so this file stands alone, and may be younger than what it measures.
Everything that is published is better when lower.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

Numbers = dict[str, float]
Cache = dict[str, dict[str, Any]]  # of an experiment, by label: its numbers, or why there are none

JOIN = " · "  # between the labels of a cell
SECONDS = 1200  # that all suites of a commit may take
THREADS = "1"  # of a cell: the times of several threads are those of a machine's load
# Parts of a metric that are tracked, besides or instead of the whole; a method may lack some.
PARTS: Mapping[str, Sequence[str]] = {
    "step_time": ("cpu",),
    "peak_bytes": ("", "activations", "sketches", "optimizer_state", "gradients"),
    "activation_bytes": ("", "sketches"),
    "state_bytes": ("", "sketch", "preconditioner", "second_moment"),
}
# Units by a metric's last word.
UNITS = {"bytes": "bytes", "time": "s", "flops": "FLOP", "loss": "nats", "error": "fraction"}
ERRORS = {"accuracy": "error"}  # fractions of which more is better, and what is left of 1
RATIO = "step_time"  # whose wall time is also told as a multiple of the baseline's


@dataclass(frozen=True)
class Series:
    """One number of each cell of an experiment, followed over commits."""

    name: str
    unit: str
    metric: str
    part: str = ""
    relative: bool = False  # to the baseline's, in the same run


def benchmarks(folder: Path, module: str) -> dict[str, type]:
    """Return asv benchmark classes of all experiments of the suites in a folder, by name.

    Raises `ValueError` where a suite can't be followed: it says which, and why.
    """

    class Tracked:
        params: list[str] = []
        param_names = ["cell"]
        timeout = 60.0

        def setup_cache(self) -> Cache:
            return measured(folder)

    Tracked.setup_cache.timeout = SECONDS  # type: ignore[attr-defined]
    found: dict[str, type] = {}
    for path, suite, experiment in _experiments(folder):
        name = "".join(word.capitalize() for word in re.findall(r"\w+", experiment["name"]))
        if name in found:
            raise ValueError(f"{path.name}: two experiments are called '{experiment['name']}'")
        members: dict[str, Any] = {
            f"track_{each.name}": _tracker(each, experiment, suite) for each in series(experiment)
        }
        members |= {"params": labels(experiment), "__module__": module}
        found[name] = type(name, (Tracked,), members)
    return found


def series(experiment: Mapping[str, Any]) -> list[Series]:
    """Return what is followed of an experiment's metrics."""
    found = []
    for written in experiment["metrics"]:
        if not isinstance(written, str):
            raise ValueError(
                f"{experiment['name']}: metrics are followed by name; {written} is not"
            )
        metric = written.partition("@")[0]
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


def measured(folder: Path) -> Cache:
    """Run every tracked experiment with what is installed; return numbers by experiment and label.

    An experiment or a method that this version doesn't know is left out.
    """
    known = _known()
    cache: Cache = {}
    for _, suite, experiment in _experiments(folder):
        pruned = _pruned(experiment, known)
        if pruned:
            cache[experiment["name"]] = _run(suite, pruned)
    return cache


def _tracker(
    each: Series, experiment: Mapping[str, Any], suite: Mapping[str, Any]
) -> Callable[[Any, Cache, str], float]:
    """Return the method that looks one number up; asv calls it in a process of its own."""

    def track(self: Any, cache: Cache, cell: str) -> float:
        cells = cache.get(experiment["name"], {})
        numbers = cells.get(cell)
        if numbers is None:  # unknown to this version
            return math.nan
        if "failed" in numbers:
            raise RuntimeError(f"{experiment['name']}, {cell}: {numbers['failed']}")
        value: float = numbers.get(f"{each.metric}/{each.part}", math.nan)
        if each.metric in ERRORS:
            return 1 - value
        if each.relative:
            base = cells.get(_baseline(experiment, cell), {})  # of the same run
            whole = f"{each.metric}/"
            return value / base[whole] if base.get(whole) else math.nan
        return value

    track.unit = each.unit  # type: ignore[attr-defined]
    what = [
        experiment["workload"],
        experiment["matrix"],
        suite.get("seeds"),
        each.metric,
        each.part,
    ]
    text = json.dumps(what, sort_keys=True)
    track.version = hashlib.sha256(text.encode()).hexdigest()[:16]  # type: ignore[attr-defined]
    track.pretty_name = f"{experiment['name']}: {each.name}"  # type: ignore[attr-defined]
    return track


def _baseline(experiment: Mapping[str, Any], cell: str) -> str:
    """Return the label of the cell that a cell is compared with: its group's baseline."""
    axes = zip(experiment["matrix"].values(), cell.split(JOIN), strict=True)
    name = experiment["baseline"]
    return JOIN.join(name if name in map(str, axis) else label for axis, label in axes)


def _experiments(folder: Path) -> Iterator[tuple[Path, dict[str, Any], dict[str, Any]]]:
    for path in sorted(folder.glob("*.yaml")):
        suite = yaml.safe_load(path.read_text())
        for experiment in suite["experiments"]:
            yield path, suite, experiment


def _known() -> set[str]:
    """Return the names of all recipes, of whatever kind, that are installed."""
    from sketchbench.registry import Registry

    return {name for classes in Registry.load().classes.values() for name in classes}


def _pruned(experiment: Mapping[str, Any], known: set[str]) -> dict[str, Any] | None:
    """Return the experiment without what isn't known; None where nothing is left."""
    if not _uses(experiment["workload"]) <= known:
        return None
    metrics = [each for each in experiment["metrics"] if each.partition("@")[0] in known]
    matrix = {
        path: {label: value for label, value in axis.items() if _uses(value) <= known}
        for path, axis in experiment["matrix"].items()
    }
    if not metrics or not all(matrix.values()):
        return None
    return {**experiment, "metrics": metrics, "matrix": matrix}


def _uses(value: Any) -> set[str]:
    """Return the names of recipes in a value: what stands after `use`."""
    if isinstance(value, Mapping):
        own = {value["use"]} if "use" in value else set()
        return own.union(*map(_uses, value.values()))
    return set()


def _run(suite: Mapping[str, Any], experiment: Mapping[str, Any]) -> dict[str, Any]:
    """Run one experiment as a suite; return each cell's numbers, or why there are none."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone = {key: value for key, value in suite.items() if key in ("suite", "title", "seeds")}
        text = json.dumps(alone | {"experiments": [experiment]})  # which is YAML, too
        (folder / "suite.yaml").write_text(text)
        run = _call(folder, "run", "suite.yaml", "--device", "cpu", "--results", "results")
        if run.returncode not in (0, 1):
            said = " ".join((run.stderr or run.stdout).split())[-300:]
            return {label: {"failed": said} for label in labels(experiment)}
        export = _call(folder, "export", "results", "--format", "csv")
        export.check_returncode()
    cells: dict[str, Any] = {label: {"failed": "no record"} for label in labels(experiment)}
    sums: dict[str, dict[str, list[float]]] = {}
    for row in csv.DictReader(io.StringIO(export.stdout)):
        label = JOIN.join(json.loads(row["axes"]).values())
        if row["status"] != "ok":
            cells[label] = {"failed": row["status"]}
        elif row["value"] and not row["at"]:
            key = f"{row['metric']}/{row['part']}"
            sums.setdefault(label, {}).setdefault(key, []).append(float(row["value"]))
    means = {
        label: {key: sum(values) / len(values) for key, values in numbers.items()}
        for label, numbers in sums.items()
        if cells.get(label, {}).get("failed") == "no record"
    }
    return cells | means


def _call(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sketchbench", *words],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": THREADS},
        capture_output=True,
        text=True,
    )
