"""The matrix: axes of labelled values, and the points that they span."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from sketchbench.recipe import Lookup, Recipe
from sketchbench.suite.compose import DEPTH
from sketchbench.suite.mistakes import Mistakes, Place
from sketchbench.suite.nodes import Entry, Items, Node, Scalar, Table, describe, name_of
from sketchbench.suite.paths import NoWay, follow, put
from sketchbench.suite.reading import Reading, is_label


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

    def points(self, base: Node, lookup: Lookup, mistakes: Mistakes) -> Iterator[Point]:
        """Yield every point once, the last axis varying fastest."""
        seen: set[frozenset[tuple[str, str]]] = set()
        for axes in self.blocks:
            for point in _product(Point({}, base), axes, lookup, mistakes):
                if len(self.blocks) > 1:
                    labels = frozenset(point.axes.items())
                    if labels in seen:
                        continue
                    seen.add(labels)
                yield point


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


class MatrixReading:
    """Reads the matrix of an experiment over its workload, and notes each mistake."""

    def __init__(self, workload: Node, lookup: Lookup, mistakes: Mistakes) -> None:
        self._workload = workload
        self._lookup = lookup
        self._mistakes = mistakes

    def matrix(self, node: Items | Table | None) -> Matrix:
        """Read a mapping of paths to values, or a list of such mappings."""
        if node is None:
            return Matrix([[]])
        tables = node.items if isinstance(node, Items) else (node,)
        if not tables:
            self._mistakes.add(
                node.place, "matrix: expected at least one mapping of paths to values"
            )
        blocks = [self._block(table) for table in tables]
        self._agree(blocks)
        return Matrix(blocks)

    def _block(self, node: Node) -> list[Axis]:
        if not isinstance(node, Table):
            self._mistakes.add(
                node.place, f"matrix: expected a mapping of paths to values; got {name_of(node)}"
            )
            return []
        if len(node.entries) > DEPTH:
            self._mistakes.add(node.place, f"matrix: more than {DEPTH} axes")
            return []
        axes = []
        for name, entry in node.entries.items():
            path = Reading(self._mistakes).path(name, entry.key)
            if path:
                axes.append(Axis(path, entry.key, self._values(path, entry)))
        for one, other in combinations(axes, 2):
            shorter, longer = sorted((one, other), key=lambda axis: len(axis.path))
            if longer.path[: len(shorter.path)] == shorter.path:
                self._mistakes.add(
                    other.key,
                    f"{longer.name} is a part of {shorter.name}, which is an axis too;"
                    " vary the whole, with a label for each choice",
                )
        return axes

    def _values(self, path: tuple[str, ...], entry: Entry) -> dict[str, Node]:
        node, name = entry.value, ".".join(("workload", *path))
        values: dict[str, Node] = {}
        if isinstance(node, Scalar) or not (
            node.items if isinstance(node, Items) else node.entries
        ):
            self._mistakes.add(
                node.place,
                f"{name}: expected a mapping of labels to values, or a list of values;"
                f" got {name_of(node) if isinstance(node, Scalar) else 'an empty one'}",
            )
        elif isinstance(node, Table):
            if "use" in node.entries:
                self._mistakes.add(
                    node.place,
                    f"{name}: one value where several are expected; write [{describe(node)}]",
                )
            for label, (key, value) in node.entries.items():
                if not is_label(label):
                    self._mistakes.add(key, f"{name}: a label is one line of text")
                values[label] = value
        else:
            slot = follow(self._workload, path, self._lookup).slot
            for item in node.items:
                label = label_of(item, slot, self._lookup)
                if not is_label(label):
                    self._mistakes.add(item.place, f"{name}: needs a label; write label: value")
                elif label in values:
                    self._mistakes.add(
                        item.place, f"{name}: a second value labelled '{label}'; write label: value"
                    )
                else:
                    values[label] = item
        return values

    def _agree(self, blocks: Sequence[Sequence[Axis]]) -> None:
        """Note labels that stand for one value here and for another there."""
        meanings: dict[tuple[str, str], Node] = {}
        for axis in (axis for axes in blocks for axis in axes):
            for label, value in axis.values.items():
                first = meanings.setdefault((axis.name, label), value)
                if first is not value and not _same(first.plain, value.plain):
                    self._mistakes.add(
                        value.place,
                        f"{axis.name}: '{label}' stands for another value in line"
                        f" {first.place.line}",
                    )


def label_of(node: Node, slot: type[Recipe] | None = None, lookup: Lookup | None = None) -> str:
    """Return how a value names itself: as it is written, a recipe by what isn't its default."""
    if isinstance(node, Scalar):
        return node.text or ("null" if node.plain is None else "")
    name = node.get("use") if isinstance(node, Table) else None
    if name is None or not isinstance(node, Table):
        return describe(node)
    if slot and lookup:
        try:
            return slot.of(node.plain, lookup).label()
        except Exception:  # noted where the point is validated
            pass
    written = [f"{k}={describe(e.value)}" for k, e in node.entries.items() if k != "use"]
    return f"{describe(name)}({', '.join(written)})" if written else describe(name)


def _same(one: object, other: object) -> bool:
    """Whether two plain values are equal, with 1, 1.0 and true told apart."""
    return one == other and repr(one) == repr(other)
