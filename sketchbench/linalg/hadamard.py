"""The fast Walsh–Hadamard transform, as products with small Hadamard factors."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from sketchbench.linalg.kronecker import apply_kronecker

FACTOR = 16  # order of the factors on a CPU


class Workspace:
    """Two buffers that transforms reuse: fresh memory costs more than the arithmetic."""


@lru_cache(maxsize=64)
def hadamard(order: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return Sylvester's Hadamard matrix (order, order), scaled to be orthogonal.

    Raises `ValueError` where the order is no power of two.
    """
    if order < 1 or order & (order - 1):
        raise ValueError(f"hadamard: order {order} is no power of two")
    h = torch.ones(1, 1, dtype=torch.float64)
    while len(h) < order:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    h *= order**-0.5
    return h.to(device, dtype)


def fwht(x: Tensor, workspace: Workspace | None = None) -> Tensor:
    """Return the orthonormal Walsh–Hadamard transform of x (..., M), M a power of two."""
    size = x.shape[-1]
    bits = size.bit_length() - 1
    per = FACTOR.bit_length() - 1
    orders = [FACTOR] * (bits // per) + ([1 << bits % per] if bits % per else [])
    return apply_kronecker(x, [hadamard(n, x.dtype, x.device) for n in orders or [1]])
