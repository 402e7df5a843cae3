"""The exact covariance: what every covariance sketch approximates."""

from __future__ import annotations

import torch
from torch import Tensor

from sketchbench import CovarianceEstimate, CovarianceSketch, Field
from sketchbench.linalg import symmetric_power


class ExactCovariance(CovarianceSketch):
    """Keep C = Σ aaᵀ itself: O(d²) memory, O(d³) time a power."""

    name = "exact-covariance"
    beta2: float = Field(1.0, gt=0, le=1, description="β₂: an update makes of C β₂C + Σaaᵀ.")

    @property
    def decay(self) -> float:
        """β₂."""
        return self.beta2

    @property
    def sandwich(self) -> bool:
        """C itself is between C and C."""
        return True

    def build(self, size: int, device: torch.device) -> CovarianceEstimate:
        """Start from C = 0, in torch's default precision."""
        return _Exact(torch.zeros(size, size, device=device), self.beta2)


class _Exact:
    def __init__(self, matrix: Tensor, beta2: float) -> None:
        self._matrix = matrix  # C (d, d)
        self._beta2 = beta2
        self.tail = matrix.new_zeros(())

    def update(self, rows: Tensor) -> None:
        rows = rows.to(self._matrix.dtype)
        self._matrix.addmm_(rows.mT, rows, beta=self._beta2)

    def dense(self) -> Tensor:
        return self._matrix.clone()

    def power(self, x: Tensor, exponent: float, ridge: float) -> Tensor:
        return symmetric_power(self._matrix, exponent, ridge).to(x.dtype) @ x
