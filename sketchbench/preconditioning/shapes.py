"""How a parameter becomes tensors with one factor an axis: merged dimensions, tiles of blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise, product
from typing import NamedTuple

from torch import Tensor


class Tile(NamedTuple):
    """Blocks of one size side by side: `counts[i]` of `sizes[i]` entries along axis i."""

    starts: tuple[int, ...]
    counts: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def blocks(self) -> int:
        """How many blocks it has."""
        return math.prod(self.counts)

    def cut(self, tensor: Tensor) -> Tensor:
        """Return its blocks (B·blocks, *sizes) of a batch of tensors (B, *merged)."""
        order = len(self.sizes)
        parts = self._region(tensor).reshape(len(tensor), *self._interleaved())
        outer, inner = range(1, 2 * order, 2), range(2, 2 * order + 1, 2)
        return parts.permute(0, *outer, *inner).reshape(-1, *self.sizes)

    def paste(self, blocks: Tensor, into: Tensor) -> None:
        """Write the blocks (B·blocks, *sizes) to their place in a batch of tensors (B, *merged)."""
        order = len(self.sizes)
        parts = blocks.reshape(len(into), *self.counts, *self.sizes)
        pairs = [axis for i in range(order) for axis in (1 + i, 1 + order + i)]
        region = self._region(into)
        region.copy_(parts.permute(0, *pairs).reshape(region.shape))

    def _region(self, tensor: Tensor) -> Tensor:
        for axis, (start, count, size) in enumerate(zip(*self, strict=True), 1):
            tensor = tensor.narrow(axis, start, count * size)
        return tensor

    def _interleaved(self) -> Iterator[int]:
        for count, size in zip(self.counts, self.sizes, strict=True):
            yield from (count, size)


class Layout(NamedTuple):
    """The form in which a parameter is preconditioned."""

    merged: tuple[int, ...]  # its dimensions: those of 1 left out, small ones joined
    tiles: tuple[Tile, ...]  # none where it isn't preconditioned: its graft is all it gets

    @property
    def exponent(self) -> float:
        """Power of each factor: −1/(2·order)."""
        return -0.5 / len(self.merged)


@lru_cache(maxsize=4096)
def layout(
    shape: tuple[int, ...], merge_dims: int, block_size: int | None, max_dim: int | None
) -> Layout:
    """Return the form of a parameter of `shape`.

    Dimensions of 1 are left out, neighbours are merged (see `merged`), and every axis is cut into
    blocks of `block_size`, the last of which may be smaller. Of fewer than two axes, without
    entries, or with a block that has an axis beyond `max_dim`, it has no tiles.
    """
    dims = merged(shape, merge_dims)
    if len(dims) < 2 or not math.prod(dims):
        return Layout(dims, ())
    tiles = tuple(
        Tile(*zip(*spans, strict=True))
        for spans in product(*(_spans(size, block_size) for size in dims))
    )
    beyond = max_dim is not None and any(max(tile.sizes) > max_dim for tile in tiles)
    return Layout(dims, () if beyond else tiles)


def merged(shape: tuple[int, ...], merge_dims: int) -> tuple[int, ...]:
    """Return the dimensions of `shape` without ones, neighbours merged up to `merge_dims`.

    The two neighbours of least product (of equal ones, the first) become one while that product
    is at most `merge_dims` and more than two are left: a kernel (64, 32, 3, 3) is (64, 288).
    Differs from `tearfree/reshaper.py`: 1. two axes always remain, where a matrix of at most
    `merge_dims` entries would become a vector with one factor of the product's size; 2. the least
    product first, not from the left, so that a kernel's output channels stay an axis.
    """
    dims = [size for size in shape if size != 1]
    while len(dims) > 2:
        least, at = min((a * b, i) for i, (a, b) in enumerate(pairwise(dims)))
        if least > merge_dims:
            break
        dims[at : at + 2] = [least]
    return tuple(dims)


def unfolded(tensor: Tensor, axis: int) -> Tensor:
    """Return axis `axis` of tensors (B, d_0, …) first: (B, d_axis, n), n the other axes'."""
    return tensor.movedim(axis + 1, 1).flatten(2)


def folded(matrix: Tensor, axis: int, sizes: tuple[int, ...]) -> Tensor:
    """Undo `unfolded`: return (B, *sizes) of (B, sizes[axis], n)."""
    others = sizes[:axis] + sizes[axis + 1 :]
    return matrix.reshape(len(matrix), sizes[axis], *others).movedim(1, axis + 1)


def _spans(size: int, block_size: int | None) -> list[tuple[int, int, int]]:
    """Return (start, count, size) of the full blocks of an axis, and of the rest."""
    if block_size is None or size <= block_size:
        return [(0, 1, size)]
    count, rest = divmod(size, block_size)
    full = (0, count, block_size)
    return [full, (count * block_size, 1, rest)] if rest else [full]
