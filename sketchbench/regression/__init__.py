"""Suites as asv benchmarks: a class an experiment, a parameter a cell, a tracked number a metric.

    from sketchbench.regression import benchmarks

    globals().update(benchmarks(Path("suites/tracked"), __name__))

What is measured comes through the command line of whatever version is installed, which is the
contract that old commits keep; so this folder stands alone, and may be younger than what it
measures. Everything that is published is better when lower.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .following import (
    ERRORS,
    MARK,
    Series,
    baseline_of,
    digest,
    experiments_in,
    labels,
    parameters,
    series,
)
from .measuring import ROUNDS, Cache, measured

__all__ = ["benchmarks", "labels", "measured", "parameters", "series"]

SECONDS = 1200  # that all suites of a commit may take


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
    for path, suite, experiment in experiments_in(folder):
        name = "".join(word.capitalize() for word in re.findall(r"\w+", experiment["name"]))
        if name in found:
            raise ValueError(f"{path.name}: two experiments are called '{experiment['name']}'")
        members: dict[str, Any] = {
            f"track_{each.name}": _tracker(each, experiment, suite) for each in series(experiment)
        }
        members |= {"params": parameters(experiment), "__module__": module}
        found[name] = type(name, (Tracked,), members)
    return found


def _tracker(
    each: Series, experiment: Mapping[str, Any], suite: Mapping[str, Any]
) -> Callable[[Any, Cache, str], float]:
    """Return the method that looks one number up; asv calls it in a process of its own."""

    def track(self: Any, cache: Cache, cell: str) -> float:
        cells = cache.get(experiment["name"], {})
        label = cell.rpartition(MARK)[0]
        numbers = cells.get(label)
        if numbers is None:  # unknown to this version
            return math.nan
        if "failed" in numbers:
            raise RuntimeError(f"{experiment['name']}, {label}: {numbers['failed']}")
        value: float = numbers.get(f"{each.metric}/{each.part}", math.nan)
        if each.metric in ERRORS:
            return 1 - value
        if each.relative:
            base = cells.get(baseline_of(experiment, label), {})  # of the same run
            whole = f"{each.metric}/"
            return value / base[whole] if base.get(whole) else math.nan
        return value

    track.unit = each.unit  # type: ignore[attr-defined]
    axes = [*experiment["matrix"]]
    what = [experiment["workload"], axes, suite.get("seeds"), each.metric, each.part, ROUNDS]
    track.version = digest(what)[:16]  # type: ignore[attr-defined]
    track.pretty_name = f"{experiment['name']}: {each.name}"  # type: ignore[attr-defined]
    return track
