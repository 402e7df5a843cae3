"""Factors of equal shapes, whoever they belong to, absorbed and applied in one batched call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from sketchbench.preconditioning.factor import Factor
from sketchbench.preconditioning.shapes import Layout, Tile, folded, unfolded

LARGEST_BATCH = 2**20  # entries in a call: larger ones gain nothing and cost memory

Item = TypeVar("Item")


class Source(NamedTuple):
    """A parameter's state, its form, and the tensor (*merged) that its factors are to see."""

    state: dict[str, Tensor]
    layout: Layout
    tensor: Tensor
    dtype: torch.dtype  # in which factors see it
    divisor: int = 1  # of the tensor: a sum of that many gradients

    def kept(self, factor: Factor, number: int, axis: int) -> dict[str, Tensor]:
        """Return what is kept of one axis of one tile, by name."""
        return {name: self.state[f"{number}.{axis}.{name}"] for name in factor.parts}


class _Task(NamedTuple):
    source: Source
    tile: Tile
    axis: int
    kept: dict[str, Tensor]

    def increment(self) -> Tensor:
        source = self.source
        tensor = source.tensor.to(source.dtype)
        tensor = tensor / source.divisor if source.divisor > 1 else tensor
        return unfolded(self.tile.cut(tensor.unsqueeze(0)), self.axis)


def absorb(factor: Factor, sources: Iterable[Source]) -> None:
    """Let every factor of every source absorb its tensor, in place; axes of one shape together.

    Raises `FloatingPointError` for what wouldn't be finite, which isn't stored.
    """
    for tasks in grouped(_tasks(factor, sources), _absorbing, _entries):
        increment = _joined([task.increment() for task in tasks])
        _store(factor, tasks, factor.absorb(_batched(tasks), increment))


def refresh(factor: Factor, sources: Iterable[Source]) -> None:
    """Make the power of every factor of every source ready to apply, in place; raises so too."""
    for tasks in grouped(_tasks(factor, sources), _refreshing, _entries):
        exponent = tasks[0].source.layout.exponent
        _store(factor, tasks, factor.refresh(_batched(tasks), exponent))


def preconditioned(factor: Factor, sources: Sequence[Source]) -> Tensor:
    """Return C_0^e ⊗ C_1^e ⊗ … of the tensors of sources of one layout: (B, *merged)."""
    tiles = sources[0].layout.tiles
    stacked = _joined([source.tensor.unsqueeze(0) for source in sources])
    if len(tiles) == 1 and tiles[0].blocks == 1:
        return _through(factor, sources, 0, stacked)
    found = torch.empty_like(stacked)
    for number, tile in enumerate(tiles):
        tile.paste(_through(factor, sources, number, tile.cut(stacked)), found)
    return found


def grouped(
    items: Iterable[Item], key: Callable[[Item], Any], size: Callable[[Item], int]
) -> Iterator[list[Item]]:
    """Yield items of one key together, in lists of at most `LARGEST_BATCH` entries, or of one."""
    groups: dict[Any, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    for group in groups.values():
        batch: list[Item] = []
        entries = 0
        for item in group:
            if batch and entries + size(item) > LARGEST_BATCH:
                yield batch
                batch, entries = [], 0
            batch.append(item)
            entries += size(item)
        yield batch


def _tasks(factor: Factor, sources: Iterable[Source]) -> Iterator[_Task]:
    for source in sources:
        for number, tile in enumerate(source.layout.tiles):
            for axis in range(len(tile.sizes)):
                yield _Task(source, tile, axis, source.kept(factor, number, axis))


def _entries(task: _Task) -> int:
    return task.tile.blocks * math.prod(task.tile.sizes)


def _refreshing(task: _Task) -> Any:
    """Return what tasks must share to be refreshed in one call: shapes, types, exponent."""
    return _kind(task), task.source.layout.exponent


def _absorbing(task: _Task) -> Any:
    """Return what tasks must share to absorb in one call: shapes and types of all that goes in."""
    size = task.tile.sizes[task.axis]
    return size, math.prod(task.tile.sizes) // size, _kind(task)


def _kind(task: _Task) -> Any:
    shapes = tuple((value.shape[1:], value.dtype) for value in task.kept.values())
    return task.source.dtype, task.source.tensor.device, shapes


def _through(factor: Factor, sources: Sequence[Source], number: int, blocks: Tensor) -> Tensor:
    layout = sources[0].layout
    sizes = layout.tiles[number].sizes
    for axis in range(len(sizes)):
        kept = [source.kept(factor, number, axis) for source in sources]
        batched = {name: _joined([each[name] for each in kept]) for name in factor.parts}
        applied = factor.apply(batched, unfolded(blocks, axis), layout.exponent)
        blocks = folded(applied, axis, sizes)
    return blocks


def _batched(tasks: Sequence[_Task]) -> dict[str, Tensor]:
    return {name: _joined([task.kept[name] for task in tasks]) for name in tasks[0].kept}


def _store(factor: Factor, tasks: Sequence[_Task], found: Mapping[str, Tensor]) -> None:
    """Copy what a factor returned into the state, if it has the shapes of `empty` and is finite."""
    counts = [task.tile.blocks for task in tasks]
    where = f"optimizer: factor {type(factor).__name__}, axis of {_length(tasks[0])}"
    for name, values in found.items():
        if name not in tasks[0].kept:
            raise ValueError(f"{where}: it returned '{name}'; `empty` made {list(tasks[0].kept)}")
        shape = (sum(counts), *tasks[0].kept[name].shape[1:])
        if values.shape != shape:
            got = tuple(values.shape)
            raise ValueError(f"{where}: it returned '{name}' as {got}; it must be {shape}")
    if not _finite(found.values()):
        raise FloatingPointError(
            f"{where}: what it would keep isn't finite; weights are as they were, but others "
            "may have absorbed this gradient (let them decay, or scale the loss down)"
        )
    for name, values in found.items():
        for task, value in zip(tasks, values.split(counts), strict=True):
            task.kept[name].copy_(value)


def _length(task: _Task) -> int:
    return task.tile.sizes[task.axis]


def _finite(found: Iterable[Tensor]) -> bool:
    """Return whether all entries are finite, without a copy; True where there are no values."""
    real = [value for value in found if value.is_floating_point() and value.numel()]
    if not real or isinstance(real[0], FakeTensor):
        return True
    ends = torch.stack([end.double() for value in real for end in torch.aminmax(value)])
    return bool(ends.isfinite().all())


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))
