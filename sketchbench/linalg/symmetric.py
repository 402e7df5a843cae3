"""Powers of symmetric matrices."""

from __future__ import annotations

import torch
from torch import Tensor


def symmetric_power(matrix: Tensor, exponent: float, ridge: float = 0.0) -> Tensor:
    """Return (C + ridge·I)^exponent of symmetric positive semi-definite C (..., d, d).

    Eigenvalues that rounding made negative count as zero. Where C is singular a negative
    exponent needs a positive ridge: the result isn't finite otherwise.
    """
    values, vectors = torch.linalg.eigh(matrix)
    powers = torch.pow(values.clamp_min(0) + ridge, exponent)
    return torch.matmul(vectors * powers.unsqueeze(-2), vectors.mT)
