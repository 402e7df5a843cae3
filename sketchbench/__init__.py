"""sketchbench: one bench for sketches of activations, covariances and gradients.

This module is the door: with `sketchbench.linalg`, `sketchbench.autodiff`, `sketchbench.curvature`,
`sketchbench.measure`, `sketchbench.preconditioning` and `sketchbench.testing` it is all that a
plugin imports. It is lazy, so that `--help` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sketchbench.hookspecs import hookimpl

if TYPE_CHECKING:
    from pydantic import Field

    from sketchbench.kinds import (
        ActivationSketch,
        CovarianceSketch,
        GradientSketch,
        Model,
        Monitor,
        Optimizer,
        Shapes,
        Split,
        Task,
        Workload,
    )
    from sketchbench.metric import Derived, Metric, Probe, Quotient, Score
    from sketchbench.outcomes import (
        Approximation,
        Escaped,
        Event,
        GradientSample,
        Predictions,
        Reconstructed,
        Spectra,
        Trace,
    )
    from sketchbench.protocols import (
        CovarianceEstimate,
        Guarantee,
        LinearSketch,
        Measured,
        Meter,
        Missing,
        SketchedModel,
        StreamedSketch,
        Watched,
        Watcher,
    )
    from sketchbench.run import Diverged, Run, Skip

__version__ = "0.1.0"

__all__ = [
    "ActivationSketch",
    "Approximation",
    "CovarianceEstimate",
    "CovarianceSketch",
    "Derived",
    "Diverged",
    "Escaped",
    "Event",
    "Field",
    "GradientSample",
    "GradientSketch",
    "Guarantee",
    "LinearSketch",
    "Measured",
    "Meter",
    "Metric",
    "Missing",
    "Model",
    "Monitor",
    "Optimizer",
    "Predictions",
    "Probe",
    "Quotient",
    "Reconstructed",
    "Run",
    "Score",
    "Shapes",
    "SketchedModel",
    "Skip",
    "Spectra",
    "Split",
    "StreamedSketch",
    "Task",
    "Trace",
    "Watched",
    "Watcher",
    "Workload",
    "hookimpl",
]

_ROOMS = {
    "sketchbench.metric": ("Derived", "Metric", "Probe", "Quotient", "Score"),
    "pydantic": ("Field",),
    "sketchbench.outcomes": (
        "Approximation",
        "Escaped",
        "Event",
        "GradientSample",
        "Predictions",
        "Reconstructed",
        "Spectra",
        "Trace",
    ),
    "sketchbench.protocols": (
        "CovarianceEstimate",
        "Guarantee",
        "LinearSketch",
        "Measured",
        "Meter",
        "Missing",
        "SketchedModel",
        "StreamedSketch",
        "Watched",
        "Watcher",
    ),
    "sketchbench.run": ("Diverged", "Run", "Skip"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'sketchbench' has no attribute '{name}'")
    room = next((room for room, names in _ROOMS.items() if name in names), "sketchbench.kinds")
    return getattr(importlib.import_module(room), name)
