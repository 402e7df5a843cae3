"""Linear algebra that plugins share; the lowest room: it imports torch and numpy alone.

A public door.
"""

from __future__ import annotations

from sketchbench.linalg.adversarial import adversarial
from sketchbench.linalg.blocks import block_fold, block_unfold, blocks_at_once
from sketchbench.linalg.compiled import Compiled, Kernel, compiled
from sketchbench.linalg.draws import normals, orthogonal, permutation, seed_of, signs, stream
from sketchbench.linalg.factors import (
    balanced,
    expect_power_of_two,
    factorised,
    orders_up_to,
    padded,
)
from sketchbench.linalg.hadamard import factor_order, fwht, hadamard
from sketchbench.linalg.kronecker import apply_kronecker
from sketchbench.linalg.lengths import expect_length
from sketchbench.linalg.random_matrix import TILE, RandomMatrix
from sketchbench.linalg.symmetric import symmetric_power
from sketchbench.linalg.workspace import Workspace

__all__ = [
    "TILE",
    "Compiled",
    "Kernel",
    "RandomMatrix",
    "Workspace",
    "adversarial",
    "apply_kronecker",
    "balanced",
    "block_fold",
    "block_unfold",
    "blocks_at_once",
    "compiled",
    "expect_length",
    "expect_power_of_two",
    "factor_order",
    "factorised",
    "fwht",
    "hadamard",
    "normals",
    "orders_up_to",
    "orthogonal",
    "padded",
    "permutation",
    "seed_of",
    "signs",
    "stream",
    "symmetric_power",
]
