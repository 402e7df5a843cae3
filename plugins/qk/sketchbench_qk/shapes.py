"""Rows and columns of the Kronecker factors."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache

from sketchbench.linalg import factorised


def second_moment(rows: int, columns: int) -> float:
    """Return E‖√(B/D) Qv‖⁴ of a unit v under the first D rows Q of a Haar matrix of order B.

    ‖Qv‖² has the law Beta(D/2, (B − D)/2).
    """
    return 1 + 2 * (columns - rows) / (rows * (columns + 2))


def variance(rows: Sequence[int], columns: Sequence[int]) -> float:
    """Return Var‖Sx‖² of a unit product vector x: the largest of all unit vectors."""
    return math.prod(second_moment(d, b) for d, b in zip(rows, columns, strict=True)) - 1


@lru_cache(maxsize=256)
def shapes(size: int, out_size: int, count: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return rows D_i, whose product is D, and columns B_i, of product N or little more.

    Of all ways to write D, the one with the smallest variance. Columns grow where a factor would
    have fewer of them than rows.
    """
    columns = factorised(max(size, out_size), count)
    found = []
    for rows in _products(out_size, count):
        wide = tuple(max(d, b) for d, b in zip(rows, columns, strict=True))
        found.append((math.prod(wide) > 2 * math.prod(columns), variance(rows, wide), rows, wide))
    _, _, rows, wide = min(found)
    return rows, wide


def _products(value: int, count: int) -> Iterator[tuple[int, ...]]:
    """Yield every way to write a number as a product of `count`, in order."""
    if count == 1:
        yield (value,)
        return
    for first in range(1, value + 1):
        if value % first == 0:
            for rest in _products(value // first, count - 1):
                yield (first, *rest)
