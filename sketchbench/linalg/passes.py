"""Passes of the Walsh–Hadamard transform over what lies in the cache, compiled by Numba.

A pass is a butterfly of up to `RADIX` vectors, each loaded once and stored once.
"""

from __future__ import annotations

from typing import Any

from numba import njit
from numpy.typing import NDArray

from sketchbench.linalg.vectors import RADIX, eight, four, lanes_of, two

Array = NDArray[Any]


@njit(nogil=True, cache=True)
def sweep(radix: int, src: Array, s: int, ss: int, dst: Array, d: int, ds: int, width: int) -> None:
    """Pass over rows of `width`."""
    step = lanes_of(dst)
    if radix == 8:
        for i in range(0, width, step):
            eight(src, s + i, ss, dst, d + i, ds)
    elif radix == 4:
        for i in range(0, width, step):
            four(src, s + i, ss, dst, d + i, ds)
    else:
        for i in range(0, width, step):
            two(src, s + i, ss, dst, d + i, ds)


@njit(nogil=True, cache=True)
def above(data: Array, start: int, done: int, size: int) -> None:
    """Transform the bits from stride `done` up, in place."""
    while done < size:
        radix = min(RADIX, size // done)
        for first in range(start, start + size, done * radix):
            sweep(radix, data, first, done, data, first, done, done)
        done *= radix


@njit(nogil=True, cache=True)
def plain(data: Array, start: int, size: int, scale: Any) -> None:
    """Transform fewer entries than a tile has, in place."""
    for i in range(start, start + size):
        data[i] *= scale
    half = 1
    while half < size:
        for i in range(size):
            if not i & half:
                a, b = data[start + i], data[start + i + half]
                data[start + i], data[start + i + half] = a + b, a - b
        half *= 2


@njit(nogil=True, cache=True)
def columns(data: Array, start: int, stride: int, rows: int, width: int, scratch: Array) -> None:
    """Transform along the rows of (rows, width) at a `stride`, in place, by way of `scratch`."""
    radix = min(RADIX, rows)
    if radix == rows:
        sweep(radix, data, start, stride, data, start, stride, width)
        return
    ahead = rows // radix
    last = min(RADIX, ahead)
    for row in range(ahead):
        place, apart = row * width, ahead * width
        sweep(radix, data, start + row * stride, ahead * stride, scratch, place, apart, width)
    done = 1
    while done * last < ahead:
        step = min(RADIX, ahead // last // done)
        for row in range(rows // step // done):
            for each in range(done):
                first = (row * step * done + each) * width
                sweep(step, scratch, first, done * width, scratch, first, done * width, width)
        done *= step
    for group in range(0, rows, done * last):
        for each in range(done):
            first = group + each
            place, apart = start + first * stride, done * stride
            sweep(last, scratch, first * width, done * width, data, place, apart, width)
