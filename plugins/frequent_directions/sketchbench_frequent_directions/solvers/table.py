"""Solvers by name, and which of them promise the sandwich bound."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from sketchbench_frequent_directions.solvers import Solver
from sketchbench_frequent_directions.solvers.gram import gram
from sketchbench_frequent_directions.solvers.gram32 import gram32
from sketchbench_frequent_directions.solvers.lobpcg import lobpcg
from sketchbench_frequent_directions.solvers.subspace import subspace
from sketchbench_frequent_directions.solvers.svd import svd

SolverName = Literal["svd", "gram", "gram32", "lobpcg", "subspace"]

SOLVERS: Mapping[str, Solver] = {
    "svd": svd,
    "gram": gram,
    "gram32": gram32,
    "lobpcg": lobpcg,
    "subspace": subspace,
}

EXACT = frozenset({"svd", "gram", "gram32"})  # leading pairs, to rounding
CERTIFIED = EXACT | {"subspace"}  # Ḡ ⪯ C ⪯ Ḡ + tail·I is promised, to rounding
