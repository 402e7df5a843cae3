"""Nodes: the values of a suite file, each with the place where it is written.

They are never changed: setting a value makes new tables on the way to it and shares the rest, so
that thousands of points of a matrix cost little more than one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

from sketchbench.suite.mistakes import Place


@dataclass(frozen=True, eq=False)
class Scalar:
    """A number, a truth value, null or text; `text` is how it is written."""

    place: Place
    text: str
    plain: str | int | float | bool | None


@dataclass(frozen=True, eq=False)
class Items:
    """A list."""

    place: Place
    items: tuple[Node, ...]

    @cached_property
    def plain(self) -> list[Any]:
        """The list as plain data; shared, so not to be changed."""
        return [item.plain for item in self.items]


class Entry(NamedTuple):
    """A value in a table, with the place of its key."""

    key: Place
    value: Node


@dataclass(frozen=True, eq=False)
class Table:
    """A mapping; keys are their source text, whatever they would mean as values."""

    place: Place
    entries: dict[str, Entry]

    @cached_property
    def plain(self) -> dict[str, Any]:
        """The mapping as plain data; shared, so not to be changed."""
        return {name: entry.value.plain for name, entry in self.entries.items()}

    def get(self, name: str) -> Node | None:
        """Return the value of `name`, or None where it isn't written."""
        entry = self.entries.get(name)
        return entry.value if entry else None

    def with_entry(self, name: str, entry: Entry) -> Table:
        """Return the table with `entry` as its `name`."""
        return Table(self.place, {**self.entries, name: entry})


Node: TypeAlias = Scalar | Items | Table


def describe(node: Node) -> str:
    """Return the node's source text, lists and mappings in flow style."""
    if isinstance(node, Items):
        return f"[{', '.join(map(describe, node.items))}]"
    if isinstance(node, Table):
        pairs = (f"{name}: {describe(entry.value)}" for name, entry in node.entries.items())
        return f"{{{', '.join(pairs)}}}"
    return node.text


def name_of(node: Node) -> str:
    """Return what an error message calls the node."""
    if isinstance(node, Scalar):
        return node.text if 0 < len(node.text) <= 60 else "nothing" if not node.text else "text"
    return "a list" if isinstance(node, Items) else "a mapping"


def from_plain(value: Any, place: Place) -> Node:
    """Return plain data as nodes that are all written at `place`."""
    if isinstance(value, Mapping):
        return Table(place, {k: Entry(place, from_plain(v, place)) for k, v in value.items()})
    if isinstance(value, Sequence) and not isinstance(value, str):
        return Items(place, tuple(from_plain(item, place) for item in value))
    return Scalar(place, "null" if value is None else str(value), value)
