"""Least squares by QR and a triangular solve, for systems that may be rank-deficient."""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 10  # roundings


def least_squares(matrix: Tensor, right: Tensor) -> Tensor:
    """Return x (k, n) that minimises ‖Mx − b‖² + λ‖x‖² for M (m, k), b (m, n).

    √λ is ten roundings of ‖M‖: nothing for a well-conditioned M, and where M is rank-deficient it
    keeps x finite. On every device and shape, unlike `torch.linalg.lstsq`, which needs full rank
    on CUDA.
    """
    size = matrix.shape[1]
    limits = torch.finfo(matrix.dtype)
    ridge = RIDGE * limits.eps * torch.linalg.norm(matrix) + limits.tiny**0.5
    bottom = ridge * torch.eye(size, dtype=matrix.dtype, device=matrix.device)
    basis, triangle = torch.linalg.qr(torch.cat([matrix, bottom]))
    turned = basis[: len(matrix)].mT @ right
    solution: Tensor = torch.linalg.solve_triangular(triangle, turned, upper=True)
    return solution
