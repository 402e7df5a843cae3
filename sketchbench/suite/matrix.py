"""The matrix: axes of labelled values, and the points that they span."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sketchbench.recipe import Lookup
from sketchbench.suite.form import Override
from sketchbench.suite.mistakes import Mistakes, Place
from sketchbench.suite.nodes import Entry, Node
from sketchbench.suite.paths import NoWay, follow, put


@dataclass(frozen=True)
class Axis:
    """A path and its labelled values, in order."""

    path: tuple[str, ...]
    key: Place
    values: Mapping[str, Node]

    @property
    def name(self) -> str:
        """The path as it is written."""
        return ".".join(("workload", *self.path))


@dataclass(frozen=True)
class Point:
    """One choice of a label on every axis, and the workload that it makes."""

    axes: Mapping[str, str]
    workload: Node


@dataclass(frozen=True)
class Matrix:
    """A union of products of axes."""

    blocks: Sequence[Sequence[Axis]]

    @property
    def size(self) -> int:
        """How many points there are, repeated ones included."""
        return sum(math.prod(len(axis.values) for axis in axes) for axes in self.blocks)

    def axes(self) -> dict[str, tuple[str, ...]]:
        """Return every axis with its labels, in order."""
        merged: dict[str, dict[str, None]] = {}
        for axis in (axis for axes in self.blocks for axis in axes):
            merged.setdefault(axis.name, {}).update(dict.fromkeys(axis.values))
        return {name: tuple(labels) for name, labels in merged.items()}

    def points(
        self,
        base: Node,
        overrides: Sequence[Override],
        lookup: Lookup,
        mistakes: Mistakes,
        hits: set[Override],
    ) -> Iterator[Point]:
        """Yield every point once, the last axis varying fastest, with the overrides applied.

        An override that has a place is noted in `hits`. What lies in no axis is set only once.
        """
        seen: set[frozenset[tuple[str, str]]] = set()
        for axes in self.blocks:
            late = [override for override in overrides if _inside(override, axes)]
            early = [override for override in overrides if override not in late]
            start = Point({}, _apply(base, early, lookup, hits))
            for point in _product(start, axes, lookup, mistakes):
                if len(self.blocks) > 1:
                    labels = frozenset(point.axes.items())
                    if labels in seen:
                        continue
                    seen.add(labels)
                yield Point(point.axes, _apply(point.workload, late, lookup, hits))


def _inside(override: Override, axes: Sequence[Axis]) -> bool:
    """Whether an override sets a part of what some axis varies."""
    return any(override.path[: len(axis.path)] == axis.path for axis in axes)


def _apply(
    workload: Node, overrides: Sequence[Override], lookup: Lookup, hits: set[Override]
) -> Node:
    """Return a workload with the overrides that it has a place for; note these in `hits`."""
    for override in overrides:
        if follow(workload, override.path, lookup).field is not None:
            workload = put(workload, override.path, override.entry, lookup)
            hits.add(override)
    return workload


def _product(
    point: Point, axes: Sequence[Axis], lookup: Lookup, mistakes: Mistakes
) -> Iterator[Point]:
    if not axes:
        yield point
        return
    axis, *rest = axes
    for label, value in axis.values.items():
        try:
            workload = put(point.workload, axis.path, Entry(axis.key, value), lookup)
        except NoWay as error:
            mistakes.add(axis.key, str(error))
            return
        chosen = Point({**point.axes, axis.name: label}, workload)
        if rest:
            yield from _product(chosen, rest, lookup, mistakes)
        else:
            yield chosen
