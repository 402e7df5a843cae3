"""Walsh–Hadamard kernels for one core, compiled by Numba; loaded by `compiled`, and by it alone.

Blocks of 2^16 entries stay in the second cache between passes; beyond, memory is passed over as
rarely as can be. Numba keeps what it compiled in `__pycache__`, or in its user's cache, and looks
for changes in the file of a function alone: whoever changes `vectors` or `passes` empties it.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from sketchbench.linalg.passes import Array, above, columns, plain
from sketchbench.linalg.vectors import (
    RADIX,
    WIDTH,
    lanes_of,
    multiply,
    multiply_add,
    tile,
    tile_of_signed,
    tile_to_signed,
)

__all__ = ["BLOCK", "WHOLE", "WIDTH", "fold", "transform", "unfold"]

BLOCK = 2**16  # entries that stay in the second cache between passes
WHOLE = 2**18  # up to here all passes go over the whole vector
ROWS = 2**8  # that one pass over memory combines, at the most


@njit(nogil=True, cache=True)
def transform(
    x: Array, start: int, out: Array, first: int, size: int, scale: Any, scratch: Array
) -> None:
    """Transform x[start:][:size] into out[first:][:size]; both are flat, and may be one.

    Beyond `WHOLE`, blocks in the cache first, then the high bits in strips by way of `scratch`
    (`BLOCK`,): memory is passed over twice up to 2^24, three times up to 2^32.
    """
    span = lanes_of(out) * RADIX
    if size < span:
        for i in range(size):  # a slice would take seconds to compile
            out[first + i] = x[start + i]
        plain(out, first, size, scale)
        return
    done = size if size <= WHOLE else BLOCK
    for block in range(0, size, done):
        for i in range(block, block + done, span):
            tile(x, start + i, x, 0, out, first + i, scale)
        above(out, first + block, span, done)
    while done < size:
        rows = min(ROWS, size // done)
        width = BLOCK // rows
        for group in range(first, first + size, done * rows):
            for column in range(group, group + done, width):
                columns(out, column, done, rows, width, scratch)
        done *= rows


@njit(nogil=True, cache=True)
def fold(
    x: Array,
    apart: int,
    before: int,
    signs: Array,
    gaussians: Array,
    size: int,
    order: Array,
    out: Array,
    out_size: int,
    count: int,
    scale: Any,
    buffer: Array,
) -> None:
    """Add to `count` rows of out the folded blocks of rows of x, which are `apart`.

    `before` zeros stand before x in the first block of `size`; x, out and `gaussians` are flat.
    `order` (1 or blocks, runs) says which run of a transform comes where. Rows take turns in each
    block, so signs and Gaussians come from memory once.
    """
    for block in range(len(gaussians) // size):
        for item in range(count):
            origin = block * size - before  # of the block, in x
            _load(x, item * apart, origin, signs, size, scale, buffer)
            runs, row = order[block % len(order)], item * out_size
            _fold(buffer, gaussians, block * size, runs, out, row, out_size)


@njit(nogil=True, cache=True)
def unfold(
    y: Array,
    apart: int,
    out_size: int,
    count: int,
    before: int,
    signs: Array,
    gaussians: Array,
    size: int,
    order: Array,
    out: Array,
    scale: Any,
    buffer: Array,
) -> None:
    """Write the adjoint of `fold` of `count` rows of y into rows of out (count, len(signs))."""
    for block in range(len(gaussians) // size):
        for item in range(count):
            _unfold(
                y,
                item * apart,
                out_size,
                gaussians,
                block * size,
                order[block % len(order)],
                buffer,
            )
            origin = block * size - before
            _store(buffer, size, scale, origin, signs, out, item * len(signs))


@njit(nogil=True, cache=True)
def _load(
    x: Array, row: int, origin: int, signs: Array, size: int, scale: Any, buffer: Array
) -> None:
    """Transform signs · x[row:] from `origin` on into the buffer; zeros stand outside of x."""
    span = lanes_of(buffer) * RADIX
    low, high = max(0, origin), min(len(signs), origin + size)
    for place in range(0, size, min(span, size)):
        at = origin + place
        if size >= span and at >= low and at + span <= high:
            tile_of_signed(x, row + at, signs, at, buffer, place, scale)
            continue
        for i in range(min(span, size)):
            inside = low <= at + i < high
            buffer[place + i] = x[row + at + i] * signs[at + i] if inside else 0
        if size >= span:
            tile(buffer, place, buffer, 0, buffer, place, scale)
    if size >= span:
        above(buffer, 0, span, size)
    else:
        plain(buffer, 0, size, scale)


@njit(nogil=True, cache=True)
def _fold(
    buffer: Array,
    gaussians: Array,
    factor: int,
    order: Array,
    out: Array,
    column: int,
    out_size: int,
) -> None:
    """Add the buffer's runs in their order, times Gaussians, to out[column:][:out_size]."""
    length, step, target = len(buffer) // len(order), lanes_of(buffer), 0
    for run in order:
        source = run * length
        if length % step == 0:
            for i in range(0, length, step):
                multiply_add(out, column + target + i, buffer, source + i, gaussians, factor + i)
        else:
            for i in range(length):
                out[column + target + i] += buffer[source + i] * gaussians[factor + i]
        factor += length
        target = target + length if target + length < out_size else 0


@njit(nogil=True, cache=True)
def _unfold(
    y: Array, row: int, out_size: int, gaussians: Array, factor: int, order: Array, buffer: Array
) -> None:
    """Write y[row:][:out_size], repeated, times Gaussians, into the buffer's runs."""
    length, step, source = len(buffer) // len(order), lanes_of(buffer), 0
    for run in order:
        target = run * length
        if length % step == 0:
            for i in range(0, length, step):
                multiply(buffer, target + i, y, row + source + i, gaussians, factor + i)
        else:
            for i in range(length):
                buffer[target + i] = y[row + source + i] * gaussians[factor + i]
        factor += length
        source = source + length if source + length < out_size else 0


@njit(nogil=True, cache=True)
def _store(
    buffer: Array, size: int, scale: Any, origin: int, signs: Array, out: Array, row: int
) -> None:
    """Transform the buffer, and write what of it lies in out[row:], times signs."""
    span = lanes_of(buffer) * RADIX
    low, high = max(0, origin), min(len(signs), origin + size)
    if size >= span:
        above(buffer, 0, span, size)
    else:
        plain(buffer, 0, size, scale)
    for place in range(0, size, min(span, size)):
        at = origin + place
        if size >= span and at >= low and at + span <= high:
            tile_to_signed(buffer, place, signs, at, out, row + at, scale)
            continue
        if size >= span:
            tile(buffer, place, buffer, 0, buffer, place, scale)
        for i in range(max(at, low), min(at + min(span, size), high)):
            out[row + i] = buffer[i - origin] * signs[i]
