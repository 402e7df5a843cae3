"""Sizes as products of factors of about one size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np


def padded(size: int) -> int:
    """Return the smallest power of two that is `size` or more."""
    return 1 << max(0, size - 1).bit_length()


def balanced(size: int, count: int) -> tuple[int, ...]:
    """Return `count` factors of a power of two, as equal as they can be, the larger ones first."""
    if size < 1 or size & (size - 1):
        raise ValueError(f"balanced: {size} is no power of two")
    if count < 1:
        raise ValueError(f"balanced: {count} factors; at least one is needed")
    share, extra = divmod(size.bit_length() - 1, count)
    return tuple(1 << (share + (index < extra)) for index in range(count))


def orders_up_to(largest: int, size: int) -> tuple[int, ...]:
    """Return the fewest factors, as equal as can be, of the power of two that holds `size`.

    None is above `largest`, a power of two.
    """
    order = padded(size)
    each = max(1, largest.bit_length() - 1)
    return balanced(order, max(1, -(-(order.bit_length() - 1) // each)))


@lru_cache(maxsize=256)
def factorised(size: int, count: int, spread: float = 2.0) -> tuple[int, ...]:
    """Return `count` factors whose product is `size`, or as little more as can be.

    Descending. Each is within a factor of `spread` of the root size^(1/count); of equal products
    the one whose factors are most alike is taken. The 124,439,808 parameters of GPT-2 are
    622 · 521 · 384 exactly. Raises `ValueError` where an argument is below 1.
    """
    if size < 1 or count < 1:
        raise ValueError(f"factorised: {size} into {count} factors; both must be at least 1")
    if spread < 1:
        raise ValueError(f"factorised: spread {spread} is below 1, so nothing would fit")
    if count == 1:
        return (size,)
    root = size ** (1 / count)
    low, high = max(1, math.floor(root / spread)), math.ceil(root * spread)
    return min(_candidates(size, count, (), low, high), key=_excess)


def _excess(factors: tuple[int, ...]) -> tuple[int, float]:
    return math.prod(factors), factors[0] / factors[-1]


def _candidates(
    size: int, count: int, taken: tuple[int, ...], low: int, high: int
) -> Iterator[tuple[int, ...]]:
    """Yield the best factors, descending from `high`, for each beginning of theirs."""
    before = math.prod(taken)
    if count > 2:
        for factor in range(high, low - 1, -1):
            if before * factor**count < size:
                return  # those that follow are no larger
            yield from _candidates(size, count - 1, (*taken, factor), low, factor)
        return
    larger = np.arange(low, high + 1)
    smaller = np.maximum(-(-size // (before * larger)), low)
    larger, smaller = larger[smaller <= larger], smaller[smaller <= larger]
    if len(larger):
        best = np.lexsort((larger / smaller, larger * smaller))[0]
        yield (*taken, int(larger[best]), int(smaller[best]))


def expect_power_of_two(where: str, field: str, value: int) -> None:
    """Raise `ValueError` where a field isn't a power of two, naming the two that are next to it."""
    if value & (value - 1):
        below = 1 << (value.bit_length() - 1)
        raise ValueError(
            f"{where}: {field} {value} is no power of two; take {below} or {2 * below}"
        )
