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

    @property
    def tail(self) -> Tensor:
        return self._matrix.new_zeros(())

    def update(self, rows: Tensor) -> None:
        """Add rows (m, d); float64 ones make a float64 C. Raise for those without a square."""
        wide = torch.promote_types(rows.dtype, self._matrix.dtype)
        rows = rows.to(wide)
        if not torch.linalg.vector_norm(rows).square().isfinite():
            raise ValueError(
                "exact-covariance: rows aren't finite, or their squares overflow; none is added"
            )
        self._matrix = self._matrix.to(wide)
        self._matrix.addmm_(rows.mT, rows, beta=self._beta2)

    def dense(self) -> Tensor:
        return self._matrix.clone()

    def power(self, x: Tensor, exponent: float, ridge: float) -> Tensor:
        dtype = torch.promote_types(self._matrix.dtype, x.dtype)
        return (symmetric_power(self._matrix.to(dtype), exponent, ridge) @ x.to(dtype)).to(x.dtype)
