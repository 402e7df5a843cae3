"""Sums of signed, transformed, weighted and folded blocks of a vector, and their adjoints.

The work of a gradient sketch in blocks: Σ_b F·G_b·P_b·H·B_b x_b, where B_b are random signs, H the
orthonormal Hadamard matrix of the block's size M, P_b a permutation of runs of entries, G_b
Gaussians on a diagonal, and F folds M entries to D: entries c, c + D, c + 2D, … are summed.
Nothing of the vector's size is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import pad

from sketchbench.linalg.compiled import DTYPES, Kernel, chosen, is_plain, packed
from sketchbench.linalg.hadamard import hadamard_factors
from sketchbench.linalg.kronecker import chained
from sketchbench.linalg.workspace import Workspace

TOGETHER = 8  # vectors that pure torch takes at a time: their blocks should stay in the cache
FILLS = 2**24  # entries that pure torch transforms at a time, where that isn't a CPU


def block_fold(
    x: Tensor,
    signs: Tensor,
    gaussians: Tensor,
    out: Tensor,
    order: Tensor | None = None,
    workspace: Workspace | None = None,
    *,
    start: int = 0,
    kernel: Kernel = "auto",
) -> Tensor:
    """Add to out (..., D) the folded blocks of x (..., n); return out.

    `signs` (n,) are int8, `gaussians` (blocks, M) float32, D divides M. x begins at entry `start`
    of the first block; what of the first and the last block lies outside of x counts as zeros.
    `order` (R,) of all blocks, or (blocks, R), are permutations as int32: run r of the permuted
    block is run order[r] of the transform; a run has M / R entries, which divide D. Gaussians
    count in the permuted order.

    x and out are float32 or float64. Raises `ValueError` where something doesn't fit.
    """
    order = _checked("block_fold", x, out.shape[-1], signs, gaussians, order, start)
    _check_result("block_fold", out, (*x.shape[:-1], out.shape[-1]), x)
    size, rows = gaussians.shape[1], x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    drawn = (signs, gaussians, order)
    if not rows.numel():
        return out
    if not (is_plain(x) and is_plain(out)):
        if kernel == "compiled":
            chosen(kernel, "block_fold", x, size)
        sums = rows.new_zeros(len(rows), out.shape[-1])
        out += _folded(rows, *drawn, sums, start, None).reshape(out.shape)
        return out
    space, sums = workspace or Workspace(), out.view(len(rows), -1)
    if chosen(kernel, "block_fold", x, size):
        buffer = space.buffer(0, (size,), x.dtype, x.device)
        runs = _runs(order, size, out.shape[-1])
        dense = (signs.contiguous(), gaussians.contiguous(), runs.contiguous())
        torch.ops.sketchbench.block_fold(packed(rows), *dense, start, buffer, sums)
        return out
    for few, into in zip(rows.split(TOGETHER), sums.split(TOGETHER), strict=True):
        _folded(few, *drawn, into, start, space)
    return out


def block_unfold(
    y: Tensor,
    signs: Tensor,
    gaussians: Tensor,
    order: Tensor | None = None,
    workspace: Workspace | None = None,
    *,
    start: int = 0,
    out: Tensor | None = None,
    kernel: Kernel = "auto",
) -> Tensor:
    """Return the adjoint of `block_fold` of y (..., D): (..., n), in `out` where it is given."""
    order = _checked("block_unfold", y, y.shape[-1], signs, gaussians, order, start, len(signs))
    size, rows = gaussians.shape[1], y.reshape(math.prod(y.shape[:-1]), y.shape[-1])
    shape, drawn = (*y.shape[:-1], len(signs)), (signs, gaussians, order)
    if out is not None:
        _check_result("block_unfold", out, shape, y)
    if not math.prod(shape):
        return y.new_empty(shape) if out is None else out
    if not is_plain(y):
        if kernel == "compiled":
            chosen(kernel, "block_unfold", y, size)
        pieces = _unfolded(rows, *drawn, start, None)
        found = torch.cat([block * signs[columns] for columns, block in pieces], 1).reshape(shape)
        return found if out is None else out.copy_(found)
    found = y.new_empty(shape) if out is None else out
    space, flat = workspace or Workspace(), found.view(len(rows), -1)
    if chosen(kernel, "block_unfold", y, size):
        buffer = space.buffer(0, (size,), y.dtype, y.device)
        runs = _runs(order, size, y.shape[-1])
        dense = (signs.contiguous(), gaussians.contiguous(), runs.contiguous())
        torch.ops.sketchbench.block_unfold(packed(rows), *dense, start, buffer, flat)
        return found
    for few, into in zip(rows.split(TOGETHER), flat.split(TOGETHER), strict=True):
        for columns, block in _unfolded(few, *drawn, start, space):
            torch.mul(block, signs[columns], out=into[:, columns])
    return found


def blocks_at_once(device: torch.device, size: int, vectors: int = 1) -> int:
    """Return how many blocks of `size` pure torch transforms at a time: those of each vector.

    On a CPU one, which stays in the cache; elsewhere `FILLS` entries in all: on an H100 a 64th took
    28 times as long, and twice as many hardly less.
    """
    return 1 if device.type == "cpu" else max(1, FILLS // (size * max(1, vectors)))


# ---------------------------------------------------------------- in pure torch


def _blocks(n: int, start: int, size: int, most: int) -> Iterator[tuple[int, int, slice, slice]]:
    """Yield blocks, up to `most` full ones at a time: the first's index, and how many they are.

    And their places that x fills, and what of x fills them.
    """
    index, blocks = 0, -(-(start + n) // size)
    while index < blocks:
        full = (start + n) // size - index if index or not start else 0
        count = max(1, min(full, most))
        low, high = max(start, index * size), min(start + n, (index + count) * size)
        yield (
            index,
            count,
            slice(low - index * size, high - index * size),
            slice(low - start, high - start),
        )
        index += count


def _most(rows: Tensor, size: int, order: Tensor | None) -> int:
    alone = order is not None and len(order) > 1  # each has a permutation of its own
    return 1 if alone else blocks_at_once(rows.device, size, len(rows))


def _folded(
    rows: Tensor,
    signs: Tensor,
    gaussians: Tensor,
    order: Tensor | None,
    sums: Tensor,
    start: int,
    space: Workspace | None,
) -> Tensor:
    """Add the folded blocks of rows (b, n) to sums (b, D); return sums."""
    size, out_size = gaussians.shape[1], sums.shape[1]
    most = _most(rows, size, order)
    for index, count, places, columns in _blocks(rows.shape[1], start, size, most):
        signed, beyond = rows[:, columns], (places.start, count * size - places.stop)
        if space is None:
            block = pad(signed * signs[columns], beyond)
        else:
            block = _buffer(space, 0, rows, count * size)
            block[:, : places.start] = 0
            block[:, places.stop :] = 0
            torch.mul(signed, signs[columns], out=block[:, places])
        block = _transformed(block.view(-1, size), space)
        block = _permuted(block, _of(order, index), space)
        if out_size == size and count == 1 and space is not None:  # nothing to fold: no temporary
            sums.addcmul_(block, gaussians[index])
            continue
        shaped, drawn = block.view(len(rows), count, size), gaussians[index : index + count]
        weighted = shaped * drawn if space is None else shaped.mul_(drawn)
        sums += weighted.view(len(rows), -1, out_size).sum(1)
    return sums


def _unfolded(
    rows: Tensor,
    signs: Tensor,
    gaussians: Tensor,
    order: Tensor | None,
    start: int,
    space: Workspace | None,
) -> Iterator[tuple[slice, Tensor]]:
    """Yield columns of the adjoint of rows (b, D), and what they are but for their signs."""
    size, out_size = gaussians.shape[1], rows.shape[1]
    most = _most(rows, size, order)
    for index, count, places, columns in _blocks(len(signs), start, size, most):
        drawn = gaussians[index : index + count].view(1, -1, out_size)
        out = None if space is None else _buffer(space, 0, rows, count * size)
        shaped = None if out is None else out.view(len(rows), -1, out_size)
        block = torch.mul(rows[:, None], drawn, out=shaped).reshape(-1, size)
        chosen_runs = _of(order, index)
        inverse = None if chosen_runs is None else chosen_runs.argsort()
        block = _transformed(_permuted(block, inverse, space), space)
        yield columns, block.view(len(rows), -1)[:, places]


def _of(order: Tensor | None, index: int) -> Tensor | None:
    return None if order is None else order[index % len(order)]


def _permuted(block: Tensor, order: Tensor | None, space: Workspace | None) -> Tensor:
    if order is None:
        return block
    runs = block.reshape(len(block), len(order), -1)
    out = None if space is None else _other(space, block).view(runs.shape)
    return torch.index_select(runs, 1, order, out=out).reshape(block.shape)


def _transformed(block: Tensor, space: Workspace | None) -> Tensor:
    """Transform block (b, M), in a buffer of the workspace, by turns into the other and back."""
    factors = hadamard_factors(block.shape[1], block.dtype, block.device)
    if space is None:
        return chained(block, factors, lambda *_: None)
    pair = (_other(space, block), block)
    return chained(block, factors, lambda index, shape: pair[index % 2].view(shape))


def _buffer(space: Workspace, index: int, rows: Tensor, size: int) -> Tensor:
    return space.buffer(index, (len(rows), size), rows.dtype, rows.device)


def _other(space: Workspace, block: Tensor) -> Tensor:
    """Return the buffer that the block isn't in."""
    first = _buffer(space, 0, block, block.shape[1])
    return (
        _buffer(space, 1, block, block.shape[1]) if first.data_ptr() == block.data_ptr() else first
    )


# ---------------------------------------------------------------- what goes in


def _runs(order: Tensor | None, size: int, out_size: int) -> Tensor:
    if order is None:
        return torch.arange(size // out_size, dtype=torch.int32).view(1, -1)
    return order


def _checked(
    where: str,
    x: Tensor,
    out_size: int,
    signs: Tensor,
    gaussians: Tensor,
    order: Tensor | None,
    start: int,
    count: int | None = None,
) -> Tensor | None:
    """Return the order as (1 or blocks, R); raise `ValueError` where something doesn't fit."""
    count = x.shape[-1] if count is None else count
    if x.dtype not in DTYPES:
        raise ValueError(f"{where}: {x.dtype}; float32 or float64 is needed: widen it first")
    if gaussians.dim() != 2 or gaussians.dtype != torch.float32:
        raise ValueError(
            f"{where}: gaussians are {tuple(gaussians.shape)}, {gaussians.dtype};"
            " (blocks, M) in float32 is needed"
        )
    blocks, size = gaussians.shape
    if size < 1 or size & (size - 1) or out_size < 1 or size % out_size:
        raise ValueError(
            f"{where}: blocks of {size} folded to {out_size}; a power of two, and a divisor of it"
        )
    if not 0 <= start < size or blocks != -(-(start + count) // size):
        raise ValueError(
            f"{where}: {count} entries from {start} on don't fill {blocks} blocks of {size}"
        )
    if signs.shape != (count,) or signs.dtype != torch.int8:
        raise ValueError(
            f"{where}: signs are {tuple(signs.shape)}, {signs.dtype}; ({count},) in int8 is needed"
        )
    if order is None:
        return None
    order = order.view(1, -1) if order.dim() == 1 else order
    runs = order.shape[-1]
    fits = order.dim() == 2 and order.dtype == torch.int32 and len(order) in (1, blocks)
    if not fits or not runs or size % runs or out_size % (size // runs):
        raise ValueError(
            f"{where}: order is {tuple(order.shape)}, {order.dtype}; (R,) or ({blocks}, R) in"
            f" int32 is needed, where R divides {size} and {size} / R divides {out_size}"
        )
    return order


def _check_result(where: str, out: Tensor, shape: tuple[int, ...], x: Tensor) -> None:
    if out.shape != shape or out.dtype != x.dtype or out.device != x.device:
        raise ValueError(
            f"{where}: out is {tuple(out.shape)}, {out.dtype} on {out.device};"
            f" {shape}, {x.dtype} on {x.device} is needed"
        )
    if is_plain(x) and not out.is_contiguous():
        raise ValueError(f"{where}: out isn't contiguous")
