"""Cells and the experiments that they belong to: pure data, ready to be executed or shown."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sketchbench.kinds import Workload
from sketchbench.metric import Derived, Metric, Probe
from sketchbench.recipe import Lookup
from sketchbench.run import Wanted


@dataclass(frozen=True)
class Cell:
    """One fully specified run, and where in its suite it stands: one label for each axis."""

    suite: str
    experiment: str
    axes: Mapping[str, str] = field(hash=False)
    workload: Workload
    metrics: tuple[Wanted, ...]
    seed: int
    device: str
    _workload_json: str = field(default="", repr=False, compare=False)

    @property
    def label(self) -> str:
        """The labels of all axes; the experiment's name where there is no matrix."""
        return " · ".join(self.axes.values()) or self.experiment

    def config(self) -> dict[str, Any]:
        """Return all that is measured, in JSON: no labels, no names, no metrics."""
        return {"workload": self.workload.config(), "seed": self.seed, "device": self.device}

    @cached_property
    def id(self) -> str:
        """A digest of `config()`, 16 hexadecimal digits."""
        workload = self._workload_json or canonical(self.workload.config())
        text = f'{{"device":{json.dumps(self.device)},"seed":{self.seed},"workload":{workload}}}'
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def request(self) -> dict[str, Any]:
        """Return what a child process needs to run the cell, in JSON; `rebuild` reads it."""
        wanted = [{"metric": w.metric.config(), "where": w.where} for w in self.metrics]
        return {"config": self.config(), "metrics": wanted}


def canonical(config: Mapping[str, Any]) -> str:
    """Return the one JSON text of a configuration."""
    return json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)


def rebuild(
    request: Mapping[str, Any], lookup: Lookup
) -> tuple[Workload, tuple[Wanted, ...], int, str]:
    """Return (workload, wanted metrics, seed, device) of a cell's `request()`."""
    config = request["config"]
    wanted = tuple(
        Wanted(Metric.of(item["metric"], lookup), item["where"]) for item in request["metrics"]
    )
    return Workload.of(config["workload"], lookup), wanted, config["seed"], config["device"]


@dataclass(frozen=True)
class Experiment:
    """One table of a suite: its metrics, its axes with all their labels, and its roles.

    Methods are compared along `method_axis`; `baseline` and `control` are labels of it. Reports
    show each method at its best value of the axis `tune['axis']`, by metric `tune['by']`, and the
    rows in order of metric `sort`.
    """

    name: str
    title: str
    metrics: tuple[Wanted, ...]
    axes: Mapping[str, tuple[str, ...]] = field(hash=False)
    method_axis: str | None
    baseline: str | None
    control: str | None
    sort: str | None = None
    tune: Mapping[str, str] | None = field(default=None, hash=False)

    def outline(self) -> dict[str, Any]:
        """Return the experiment in JSON, to be read without plugins."""
        return {
            "name": self.name,
            "title": self.title,
            "metrics": [_described(wanted) for wanted in self.metrics],
            "axes": {path: list(labels) for path, labels in self.axes.items()},
            "method_axis": self.method_axis,
            "baseline": self.baseline,
            "control": self.control,
            "sort": self.sort,
            "tune": dict(self.tune) if self.tune else None,
        }


def _described(wanted: Wanted) -> dict[str, Any]:
    metric = wanted.metric
    return {
        "label": wanted.label(),
        "name": metric.label(),
        "metric": metric.config(),
        "where": wanted.where,
        "unit": metric.unit,
        "direction": metric.direction,
        "margin": metric.margin,
        "relative": metric.relative,
        "derived": isinstance(metric, Derived),
        "breakdown": isinstance(metric, Probe) and metric.breakdown,
    }
