"""Paths: dotted ways through a workload's slots, followed over recipe classes and nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from sketchbench.kinds import Workload
from sketchbench.recipe import Lookup, Recipe, UnknownName, slot_kind
from sketchbench.suite.mistakes import Place
from sketchbench.suite.nodes import Entry, Node, Scalar, Table, from_plain, name_of

_NOWHERE = Place("")


class NoWay(ValueError):
    """A path leads through something that has no parameters; the text says what."""


@dataclass(frozen=True)
class Found:
    """How far a path leads: `depth` names of it are there, `owner` is the class that has the last.

    A path that leads all the way has its `field`, and `slot`, the kind that the field takes. One
    that ends at a name that nobody registered is `lost`: that name is the mistake, not the path.
    """

    depth: int
    owner: type[Recipe] | None = None
    field: FieldInfo | None = None
    lost: bool = False

    @property
    def slot(self) -> type[Recipe] | None:
        """The kind that the field takes, or None where it takes no recipe."""
        return slot_kind(self.field.annotation) if self.field else None


def follow(workload: Node, path: Sequence[str], lookup: Lookup) -> Found:
    """Follow `path` from a workload, through what is written and through defaults."""
    kind: type[Recipe] | None = Workload
    node: Node | None = workload
    for depth, name in enumerate(path):
        owner = recipe_class(node, kind, lookup) if kind else None
        if owner is None:
            return Found(depth, lost=depth == 0 or (kind is not None and _name(node) is not None))
        field = owner.model_fields.get(name)
        if field is None:
            return Found(depth, owner)
        if depth == len(path) - 1:
            return Found(len(path), owner, field=field)
        written = node.get(name) if isinstance(node, Table) else None
        node = written or _default(field, _NOWHERE)
        kind = slot_kind(field.annotation)
    return Found(0)


def put(
    node: Node,
    path: Sequence[str],
    entry: Entry,
    lookup: Lookup,
    kind: type[Recipe] | None = Workload,
    trail: str = "workload",
) -> Table:
    """Return `node` with `entry` at `path`; names on the way become mappings with `use`.

    Raises `NoWay` where something on the way can't have parameters.
    """
    if isinstance(node, Table):
        table = node
    elif isinstance(node, Scalar) and isinstance(node.plain, str):
        table = Table(node.place, {"use": Entry(node.place, node)})
    else:
        raise NoWay(f"{trail} is {name_of(node)} and has no parameters")
    name, *rest = path
    if not rest:
        return table.with_entry(name, entry)
    owner = recipe_class(table, kind, lookup) if kind else None
    field = owner.model_fields.get(name) if owner else None
    below = table.entries.get(name) or Entry(
        entry.key, (field and _default(field, entry.key)) or Table(entry.key, {})
    )
    slot = slot_kind(field.annotation) if field else None
    filled = put(below.value, rest, entry, lookup, slot, f"{trail}.{name}")
    return table.with_entry(name, Entry(below.key, filled))


def recipe_class(node: Node | None, kind: type[Recipe], lookup: Lookup) -> type[Recipe] | None:
    """Return the class that a slot's node names, or None where it names none that is known."""
    name = _name(node)
    try:
        return None if name is None else lookup.lookup(kind.kind, name)
    except UnknownName:
        return None


def _name(node: Node | None) -> str | None:
    """Return the name of a recipe that a slot's node has."""
    name = node.get("use") if isinstance(node, Table) else node
    return name.plain if isinstance(name, Scalar) and isinstance(name.plain, str) else None


def _default(field: FieldInfo, place: Place) -> Node | None:
    """Return a slot's default as nodes, if it is a recipe."""
    default: Any = field.default
    return from_plain(default.config(), place) if isinstance(default, Recipe) else None
