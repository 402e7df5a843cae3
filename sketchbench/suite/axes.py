"""Axes: the matrix of an experiment as it is written, with a label for every value."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from sketchbench.recipe import Lookup, Recipe
from sketchbench.suite.compose import DEPTH
from sketchbench.suite.matrix import Axis, Matrix
from sketchbench.suite.mistakes import Mistakes
from sketchbench.suite.nodes import Entry, Items, Node, Scalar, Table, describe, name_of
from sketchbench.suite.paths import follow
from sketchbench.suite.reading import Reading, is_label


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
