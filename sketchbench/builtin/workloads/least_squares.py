"""Least squares, sketched: solved in the sketch's place, or preconditioned by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from sketchbench import Missing

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

CONVERGED = (1, 2)  # of scipy's `istop`: to the tolerance, consistent or not


@dataclass(frozen=True)
class Solved:
    """Outcome: residuals ‖Ax̂ − b‖ (draws,) of sketched solutions, and the `best` there is."""

    residuals: Tensor
    best: float


@dataclass(frozen=True)
class Preconditioned:
    """Outcome: LSQR's iterations (draws,) with a sketch's preconditioner, and `plain` without.

    A draw that gave no solution within `limit` iterations counts as `limit`.
    """

    iterations: Tensor
    plain: int
    limit: int


class LeastSquares:
    """min ‖Ax − b‖ with A (rows, n) of full rank and b (rows,), in double precision."""

    def __init__(self, matrix: Tensor, target: Tensor, tolerance: float, limit: int) -> None:
        self._matrix, self._target = matrix, target
        self._tolerance, self._limit = tolerance, limit

    def solved(self, images: Sequence[Tensor]) -> Solved | Missing:
        """Return residuals of the solutions of [SA Sb] (D, n + 1)."""
        short = self._short(images)
        if short:
            return short
        found = [self._residual(torch.linalg.lstsq(s[:, :-1], s[:, -1:]).solution) for s in images]
        best = self._residual(torch.linalg.lstsq(self._matrix, self._target[:, None]).solution)
        return Solved(torch.stack(found), float(best))

    def preconditioned(self, images: Sequence[Tensor]) -> Preconditioned | Missing:
        """Return LSQR's iterations with R of SA = QR [Rokhlin Tygert 2008; Blendenpik]."""
        short = self._short(images)
        if short:
            return short
        triangles = [torch.linalg.qr(image[:, :-1], mode="r")[1].numpy() for image in images]
        identity = np.eye(self._matrix.shape[1])
        counts = [self._iterations(triangle) for triangle in triangles]
        found = torch.tensor(counts, dtype=torch.double)
        return Preconditioned(found, self._iterations(identity), self._limit)

    def _short(self, images: Sequence[Tensor]) -> Missing | None:
        rows, columns = len(images[0]), self._matrix.shape[1]
        if rows >= columns:
            return None
        return Missing(f"the sketch's {rows} rows are fewer than A's {columns} columns")

    def _residual(self, solution: Tensor) -> Tensor:
        """Return ‖Ax − b‖ of x (n, 1)."""
        norm: Tensor = (self._matrix @ solution.squeeze(1) - self._target).norm()
        return norm

    def _iterations(self, triangle: NDArray[np.float64]) -> int:
        """Return how many LSQR takes for A R⁻¹; the limit if it doesn't converge by then."""
        from scipy.linalg import solve_triangular
        from scipy.sparse.linalg import LinearOperator, lsqr

        diagonal = np.abs(np.diagonal(triangle))
        if not diagonal.min() > len(diagonal) * np.finfo(float).eps * diagonal.max():
            return self._limit  # SA lost rank: there is no R⁻¹
        matrix = self._matrix.numpy()
        operator = LinearOperator(
            matrix.shape,
            matvec=lambda v: matrix @ solve_triangular(triangle, v),
            rmatvec=lambda u: solve_triangular(triangle, matrix.T @ u, trans="T"),
            dtype=matrix.dtype,
        )
        found = lsqr(
            operator,
            self._target.numpy(),
            atol=self._tolerance,
            btol=self._tolerance,
            conlim=0,
            iter_lim=self._limit,
        )
        return int(found[2]) if found[1] in CONVERGED else self._limit
