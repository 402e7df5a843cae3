"""Activation sketches: the tri-sketch EMA in its readings, its rivals, what watches training."""

from __future__ import annotations

from collections.abc import Sequence

from sketchbench import ActivationSketch, Metric, Monitor, Workload, hookimpl
from sketchbench_tri_sketch.averages import EMAFull, MeanActivation
from sketchbench_tri_sketch.bases import RandBasis, SVDOracle
from sketchbench_tri_sketch.ema_basis import EmaBasis
from sketchbench_tri_sketch.heat_control import HeatControl, KeptBytes, Objective
from sketchbench_tri_sketch.monitor import TriSketchMonitor
from sketchbench_tri_sketch.quantise import Quantise
from sketchbench_tri_sketch.rows import CRS, WTACRS
from sketchbench_tri_sketch.top_k import TopK
from sketchbench_tri_sketch.tri_sketch import TriSketch
from sketchbench_tri_sketch.unbiased import Unbiased
from sketchbench_tri_sketch.velora import VeLoRA

__all__ = [
    "CRS",
    "WTACRS",
    "EMAFull",
    "EmaBasis",
    "HeatControl",
    "KeptBytes",
    "MeanActivation",
    "Objective",
    "Quantise",
    "RandBasis",
    "SVDOracle",
    "TopK",
    "TriSketch",
    "TriSketchMonitor",
    "Unbiased",
    "VeLoRA",
    "register_metrics",
    "register_monitors",
    "register_sketches",
    "register_workloads",
]


@hookimpl
def register_sketches() -> Sequence[type[ActivationSketch]]:
    """Return the activation sketches: the paper's readings and their rivals."""
    return [
        TriSketch,
        EmaBasis,
        Unbiased,
        EMAFull,
        MeanActivation,
        CRS,
        WTACRS,
        RandBasis,
        SVDOracle,
        VeLoRA,
        TopK,
        Quantise,
    ]


@hookimpl
def register_monitors() -> Sequence[type[Monitor]]:
    """Return what watches exact training through the same sketches."""
    return [TriSketchMonitor]


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """Return the scores of a control problem."""
    return [Objective, KeptBytes]


@hookimpl
def register_workloads() -> Sequence[type[Workload]]:
    """Return the positive control of the three-sketch method."""
    return [HeatControl]
