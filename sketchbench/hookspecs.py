"""What a plugin may implement: seven registrations and one notification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pluggy import HookimplMarker, HookspecMarker

if TYPE_CHECKING:
    from sketchbench.kinds import (
        ActivationSketch,
        CovarianceSketch,
        GradientSketch,
        Model,
        Monitor,
        Optimizer,
        Task,
        Workload,
    )
    from sketchbench.metric import Metric
    from sketchbench.records import Record

hookspec = HookspecMarker("sketchbench")
hookimpl = HookimplMarker("sketchbench")


@hookspec
def register_sketches() -> Sequence[
    type[ActivationSketch] | type[CovarianceSketch] | type[GradientSketch]
]:
    """Return sketch recipes, of any of the three families."""


@hookspec
def register_monitors() -> Sequence[type[Monitor]]:
    """Return monitors: what watches exact training through sketches."""


@hookspec
def register_optimizers() -> Sequence[type[Optimizer]]:
    """Return optimizer recipes."""


@hookspec
def register_models() -> Sequence[type[Model]]:
    """Return model recipes."""


@hookspec
def register_tasks() -> Sequence[type[Task]]:
    """Return task recipes: data, and the loss that goes with it."""


@hookspec
def register_metrics() -> Sequence[type[Metric]]:
    """Return probes (resources), scores (quality) and derived metrics."""


@hookspec
def register_workloads() -> Sequence[type[Workload]]:
    """Return experiments."""


@hookspec
def record_stored(record: Record) -> None:
    """Called once a cell's record is safely in the store (trackers, alerts)."""
