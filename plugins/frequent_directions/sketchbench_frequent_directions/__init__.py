"""Frequent Directions and Sketchy: covariance sketches, and the optimizers built on them."""

from __future__ import annotations

from collections.abc import Sequence

from sketchbench import CovarianceSketch, hookimpl
from sketchbench_frequent_directions.frequent_directions import FrequentDirections

__all__ = ["FrequentDirections", "register_sketches"]


@hookimpl
def register_sketches() -> Sequence[type[CovarianceSketch]]:
    """Return the covariance sketches."""
    return [FrequentDirections]
