"""Products with Kronecker products of small matrices, which are never formed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor


def apply_kronecker(x: Tensor, factors: Sequence[Tensor]) -> Tensor:
    """Return (F₁ ⊗ F₂ ⊗ …) x for x (..., Π columns): (..., Π rows).

    The adjoint is the product with the transposed factors. Raises `ValueError` where x doesn't
    have as many entries as the factors have columns.
    """
    size = math.prod(factor.shape[1] for factor in factors)
    if x.shape[-1] != size:
        raise ValueError(f"kronecker: factors have {size} columns; x has {x.shape[-1]} entries")
    lead, left, right = x.shape[:-1], 1, size
    y = x.reshape(-1, size)
    batch = len(y)
    for factor in factors:
        rows, columns = factor.shape
        right //= columns
        y = factor @ y.reshape(batch * left, columns, right)
        left *= rows
    return y.reshape(*lead, left)


def padded(size: int) -> int:
    """Return the smallest power of two that is `size` or more."""
    return 1 << max(0, size - 1).bit_length()


def balanced(size: int, count: int) -> tuple[int, ...]:
    """Return `count` factors of a power of two, as equal as they can be, the larger ones first."""
    if size < 1 or size & (size - 1):
        raise ValueError(f"balanced: {size} is no power of two")
    share, extra = divmod(size.bit_length() - 1, count)
    return tuple(1 << (share + (index < extra)) for index in range(count))
