"""Linear algebra that plugins share; the lowest room: it imports torch and numpy alone.

A public door.
"""

from __future__ import annotations

from sketchbench.linalg.adversarial import adversarial
from sketchbench.linalg.draws import normals, orthogonal, permutation, seed_of, signs, stream
from sketchbench.linalg.hadamard import Workspace, fwht, hadamard
from sketchbench.linalg.kronecker import apply_kronecker, balanced, padded
from sketchbench.linalg.random_matrix import TILE, RandomMatrix
from sketchbench.linalg.symmetric import symmetric_power

__all__ = [
    "TILE",
    "RandomMatrix",
    "Workspace",
    "adversarial",
    "apply_kronecker",
    "balanced",
    "fwht",
    "hadamard",
    "normals",
    "orthogonal",
    "padded",
    "permutation",
    "seed_of",
    "signs",
    "stream",
    "symmetric_power",
]
