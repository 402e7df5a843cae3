"""The exact covariance: what every covariance sketch approximates."""

from __future__ import annotations

import torch
from torch import Tensor

from sketchbench import CovarianceEstimate, CovarianceSketch
from sketchbench.linalg import symmetric_power


class ExactCovariance(CovarianceSketch):
    """Keep C = Σ aaᵀ itself: O(d²) memory, O(d³) time a power."""

    name = "exact-covariance"

    def build(self, size: int, device: torch.device) -> CovarianceEstimate:
        """Start from C = 0, in torch's default precision."""
        return _Exact(torch.zeros(size, size, device=device))


class _Exact:
    def __init__(self, matrix: Tensor) -> None:
        self._matrix = matrix  # C (d, d)

    def update(self, rows: Tensor) -> None:
        rows = rows.to(self._matrix.dtype)
        self._matrix.addmm_(rows.mT, rows)

    def dense(self) -> Tensor:
        return self._matrix.clone()

    def power(self, x: Tensor, exponent: float, ridge: float) -> Tensor:
        return symmetric_power(self._matrix, exponent, ridge).to(x.dtype) @ x
