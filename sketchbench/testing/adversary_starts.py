"""Vectors that a search for a sketch's worst input starts from: structures, and no known failure.

Every structure is drawn at many scales: sparse ones at every stride, Walsh functions in blocks
of every length, outer products of every shape.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from sketchbench.linalg import hadamard


def starts(size: int, count: int, rng: Generator) -> Tensor:
    """Return about `count` unit vectors (n, size), as many of each structure."""
    each = max(1, count // len(_STRUCTURES))
    drawn = torch.stack([make(size, rng) for make in _STRUCTURES for _ in range(each)])
    return torch.nn.functional.normalize(drawn[drawn.any(1)], dim=1)  # two of rank 1 may cancel


def _number(low: int, high: int, rng: Generator) -> int:
    """Draw a whole number, low ≤ n < high."""
    return int(torch.randint(low, max(low + 1, high), (), generator=rng))


def _scale(size: int, rng: Generator) -> int:
    """Draw a power of two that is `size` at most."""
    return 1 << _number(0, size.bit_length(), rng)


def _signs(count: int, rng: Generator) -> Tensor:
    """Draw all ones, or random signs: (count,)."""
    if _number(0, 2, rng):
        return torch.ones(count)
    return torch.randint(2, (count,), generator=rng) * 2.0 - 1


def _scattered(size: int, rng: Generator) -> Tensor:
    """A few coordinates anywhere, 1 … N of them."""
    count = _scale(size, rng)
    x = torch.zeros(size)
    x[torch.randperm(size, generator=rng)[:count]] = _signs(count, rng)
    return x


def _comb(size: int, rng: Generator) -> Tensor:
    """A few coordinates at one distance of another, which is a power of two or anything."""
    stride = _scale(size // 2, rng) if _number(0, 2, rng) else _number(1, size // 2, rng)
    first = _number(0, size, rng)
    count = min(_scale(size, rng), -(-(size - first) // stride))
    x = torch.zeros(size)
    x[first : first + stride * count : stride] = _signs(count, rng)
    return x


def _walsh(size: int, rng: Generator) -> Tensor:
    """A Walsh function in one aligned block, or in all of them."""
    length = _scale(size, rng)
    walsh = hadamard(length, torch.float32, torch.device("cpu"))[_number(0, length, rng)]
    blocks = torch.zeros(size // length, length)
    blocks[_number(0, len(blocks), rng) if _number(0, 2, rng) else slice(None)] = walsh
    return _fitted(blocks.flatten(), size)


def _outer(size: int, rng: Generator) -> Tensor:
    """An outer product of two vectors, each dense, one coordinate or constant."""
    rows = _scale(size, rng)
    return _fitted(torch.outer(_factor(rows, rng), _factor(size // rows, rng)).flatten(), size)


def _low_rank(size: int, rng: Generator) -> Tensor:
    """A matrix of rank 2."""
    return _outer(size, rng) + _outer(size, rng)


def _stretch(size: int, rng: Generator) -> Tensor:
    """Constant, or dense, in one stretch."""
    length, x = _scale(size, rng), torch.zeros(size)
    first = _number(0, size - length + 1, rng)
    x[first : first + length] = _factor(length, rng)
    return x


def _dense(size: int, rng: Generator) -> Tensor:
    """Dense, and nothing special."""
    return torch.randn(size, generator=rng)


def _factor(size: int, rng: Generator) -> Tensor:
    """Draw a vector (size,) that is dense, one coordinate, or constant but for signs."""
    kind = _number(0, 3, rng)
    if kind == 0:
        return torch.randn(size, generator=rng)
    if kind == 1:
        return torch.eye(size)[_number(0, size, rng)]
    return _signs(size, rng)


def _fitted(x: Tensor, size: int) -> Tensor:
    """Fill up a vector with zeros."""
    return torch.nn.functional.pad(x, (0, size - len(x)))


_STRUCTURES: tuple[Callable[[int, Generator], Tensor], ...] = (
    _scattered,
    _comb,
    _walsh,
    _outer,
    _low_rank,
    _stretch,
    _dense,
)
