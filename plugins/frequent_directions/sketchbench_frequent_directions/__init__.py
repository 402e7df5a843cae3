"""Frequent Directions and Sketchy: covariance sketches, and the optimizers built on them."""

from __future__ import annotations

from collections.abc import Sequence

from sketchbench import CovarianceSketch, Optimizer, hookimpl
from sketchbench_frequent_directions.frequent_directions import FrequentDirections
from sketchbench_frequent_directions.online import (
    FDSON,
    OGD,
    RFDSON,
    AdaFD,
    AdagradDiagonal,
    AdagradFull,
    SAdagrad,
)
from sketchbench_frequent_directions.s_shampoo import SShampoo

__all__ = [
    "FDSON",
    "OGD",
    "RFDSON",
    "AdaFD",
    "AdagradDiagonal",
    "AdagradFull",
    "FrequentDirections",
    "SAdagrad",
    "SShampoo",
    "register_optimizers",
    "register_sketches",
]


@hookimpl
def register_sketches() -> Sequence[type[CovarianceSketch]]:
    """Return the covariance sketches."""
    return [FrequentDirections]


@hookimpl
def register_optimizers() -> Sequence[type[Optimizer]]:
    """Return the optimizers."""
    return [AdaFD, AdagradDiagonal, AdagradFull, FDSON, OGD, RFDSON, SAdagrad, SShampoo]
