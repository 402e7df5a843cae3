"""Gradients and curvature of a model's loss: as flat vectors, and as products with one.

A public door. It imports torch, and of sketchbench only `autodiff` and `linalg`.
"""

from __future__ import annotations

from sketchbench.curvature.density import Density, Estimate, density, trace
from sketchbench.curvature.function import Function, sizes
from sketchbench.curvature.gradients import gradient, gradients
from sketchbench.curvature.lanczos import Krylov, lanczos, random_vector
from sketchbench.curvature.operators import Curvature, Kind, curvature
from sketchbench.curvature.sketched import Sketched

__all__ = [
    "Curvature",
    "Density",
    "Estimate",
    "Function",
    "Kind",
    "Krylov",
    "Sketched",
    "curvature",
    "density",
    "gradient",
    "gradients",
    "lanczos",
    "random_vector",
    "sizes",
    "trace",
]
