"""Running what is followed with the version that is installed, through its command line."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .following import JOIN, experiments_in, labels

Cache = dict[str, dict[str, Any]]  # of an experiment, by label: its numbers, or why there are none

THREADS = "1"  # of a cell: the times of several threads are those of a machine's load
JOBS = "2"  # cells at a time, of what is exact; times are taken alone
ROUNDS = 3  # of times: the least counts, as what slows a machine comes and goes
TIMES = "SKETCHBENCH_ASV_TIMES"  # in the environment, `no` leaves times out
# Of processes that are timed: memory once taken stays theirs (glibc), so that a temporary costs no
# page faults, which depend on what pages the system has at hand and doubled the time of some cells.
STEADY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**40)}


def measured(folder: Path) -> Cache:
    """Run every tracked experiment with what is installed; return numbers by experiment and label.

    What is exact is measured once, times `ROUNDS` times, of which the least counts (none where the
    variable `TIMES` is `no`). An experiment or a method that this version doesn't know is left out.
    """
    known = _known()
    alike: dict[str, list[dict[str, Any]]] = {}  # experiments by their seeds
    for _, suite, experiment in experiments_in(folder):
        pruned = _pruned(experiment, known)
        if pruned:
            alike.setdefault(json.dumps(suite.get("seeds", 1)), []).append(pruned)
    cache: Cache = {}
    rounds = 0 if os.environ.get(TIMES) == "no" else ROUNDS
    for seeds, experiments in alike.items():
        exact, timed = (_metrics(experiments, timed) for timed in (False, True))
        cache |= _joined(
            [_run(seeds, exact, JOBS), *(_run(seeds, timed, "1") for _ in range(rounds))]
        )
    return cache


def _metrics(experiments: Sequence[dict[str, Any]], timed: bool) -> list[dict[str, Any]]:
    """Return the experiments with their times alone, or with everything else; none without any."""
    found = []
    for each in experiments:
        metrics = [m for m in each["metrics"] if m.partition("@")[0].endswith("_time") is timed]
        if metrics:
            found.append({**each, "metrics": metrics})
    return found


def _joined(runs: Sequence[Cache]) -> Cache:
    """Return what several runs say of each cell: the least of each number, or a failure of any."""
    cache: Cache = {}
    for run in runs:
        for name, cells in run.items():
            mine = cache.setdefault(name, {})
            for label, numbers in cells.items():
                before = mine.get(label, {})
                if "failed" in before or "failed" in numbers:
                    mine[label] = before if "failed" in before else numbers
                    continue
                least = {key: min(value, before.get(key, value)) for key, value in numbers.items()}
                mine[label] = before | least
    return cache


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
    kept = {key: value for key, value in experiment.items() if key != "baseline"}
    return {**kept, "metrics": metrics, "matrix": matrix}


def _uses(value: Any) -> set[str]:
    """Return the names of recipes in a value: what stands after `use`."""
    if isinstance(value, Mapping):
        own = {value["use"]} if "use" in value else set()
        return own.union(*map(_uses, value.values()))
    return set()


def _run(seeds: str, experiments: Sequence[dict[str, Any]], jobs: str) -> Cache:
    """Run experiments as one suite; return each cell's numbers, or why there are none.

    Where that suite is refused, each experiment is tried alone.
    """
    if not experiments:
        return {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        suite = {"suite": "tracked", "seeds": json.loads(seeds), "experiments": experiments}
        (folder / "suite.yaml").write_text(json.dumps(suite))  # which is YAML, too
        words = ("--device", "cpu", "--results", "results", "--jobs", jobs)
        run = _call(folder, "run", "suite.yaml", *words, **({} if jobs == JOBS else STEADY))
        if run.returncode not in (0, 1):
            if len(experiments) > 1:
                return {k: v for each in experiments for k, v in _run(seeds, [each], jobs).items()}
            said = " ".join((run.stderr or run.stdout).split())[-300:]
            return {each["name"]: _failed(labels(each), said) for each in experiments}
        export = _call(folder, "export", "results", "--format", "csv")
        export.check_returncode()
    return _read(experiments, export.stdout)


def _failed(cells: Sequence[str], why: str) -> dict[str, Any]:
    return {label: {"failed": why} for label in cells}


def _read(experiments: Sequence[dict[str, Any]], text: str) -> Cache:
    """Return what an export says of each cell: means over seeds, or a status that isn't ok."""
    sums: dict[tuple[str, str], dict[str, list[float]]] = {}
    failed: dict[tuple[str, str], str] = {}
    for row in csv.DictReader(io.StringIO(text)):
        at = (row["experiment"], JOIN.join(json.loads(row["axes"]).values()))
        numbers = sums.setdefault(at, {})
        if row["status"] != "ok":
            failed[at] = row["status"]
        elif row["value"] and not row["at"]:
            numbers.setdefault(f"{row['metric']}/{row['part']}", []).append(float(row["value"]))
    cache: Cache = {}
    for name, label in ((each["name"], label) for each in experiments for label in labels(each)):
        at = (name, label)
        why = failed.get(at) or ("" if at in sums else "no record")
        means = {key: sum(some) / len(some) for key, some in sums.get(at, {}).items()}
        cache.setdefault(name, {})[label] = {"failed": why} if why else means
    return cache


def _call(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sketchbench", *words],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": THREADS} | variables,
        capture_output=True,
        text=True,
    )
