"""Factors of equal shapes, whoever they belong to, absorbed and applied in one batched call."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from sketchbench.preconditioning.factor import Factor
from sketchbench.preconditioning.shapes import Layout, Tile, folded, unfolded

LARGEST_BATCH = 2**20  # entries in a call: larger ones gain nothing and cost memory

Item = TypeVar("Item")


class Source(NamedTuple):
    """A parameter's state, its form, and the tensor (*merged) that its factors are to see."""

    state: dict[str, Tensor]
    layout: Layout
    tensor: Tensor
    divisor: int = 1  # of the tensor: a sum of that many gradients

    def kept(self, factor: Factor, number: int, axis: int) -> dict[str, Tensor]:
        """Return what is kept of one axis of one tile, by name."""
        return {name: self.state[f"{number}.{axis}.{name}"] for name in factor.parts}


class _Task(NamedTuple):
    source: Source
    tile: Tile
    axis: int
    kept: dict[str, Tensor]

    def increment(self, dtype: torch.dtype) -> Tensor:
        source = self.source
        tensor = source.tensor.to(dtype)
        tensor = tensor / source.divisor if source.divisor > 1 else tensor
        return unfolded(self.tile.cut(tensor.unsqueeze(0)), self.axis)


def absorb(factor: Factor, sources: Iterable[Source]) -> None:
    """Let every factor of every source absorb its tensor, in place; axes of one shape together."""
    for tasks in grouped(_tasks(factor, sources), _absorbing, _entries):
        dtype = next(iter(tasks[0].kept.values())).dtype
        increment = _joined([task.increment(dtype) for task in tasks])
        _store(tasks, factor.absorb(_batched(tasks), increment))


def refresh(factor: Factor, sources: Iterable[Source]) -> None:
    """Make the power of every factor of every source ready to apply, in place."""
    for tasks in grouped(_tasks(factor, sources), _refreshing, _entries):
        exponent = tasks[0].source.layout.exponent
        _store(tasks, factor.refresh(_batched(tasks), exponent))


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
    shapes = tuple((value.shape[1:], value.dtype, value.device) for value in task.kept.values())
    return shapes, task.source.layout.exponent


def _absorbing(task: _Task) -> Any:
    """Return what tasks must share to absorb in one call: shapes and types of all that goes in."""
    sizes = task.tile.sizes
    rest = math.prod(sizes) // sizes[task.axis]
    return _refreshing(task)[0], rest


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


def _store(tasks: Sequence[_Task], found: Any) -> None:
    counts = [len(next(iter(task.kept.values()))) for task in tasks]
    for name, values in found.items():
        for task, value in zip(tasks, values.split(counts), strict=True):
            task.kept[name].copy_(value)


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))
