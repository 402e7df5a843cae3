"""Checking: plain data into recipes, and every mistake back to the place where it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from sketchbench.kinds import Workload
from sketchbench.recipe import Lookup, Recipe, slot_kind
from sketchbench.suite.mistakes import Mistakes, Place
from sketchbench.suite.nodes import Items, Node, Table
from sketchbench.suite.paths import recipe_class

R = TypeVar("R", bound=Recipe)
_BROKEN = object()  # in place of a recipe whose own code failed


class Workloads:
    """Makes workloads of nodes; what fills a slot at many points is validated once."""

    def __init__(self, lookup: Lookup, mistakes: Mistakes) -> None:
        self._lookup = lookup
        self._mistakes = mistakes
        self._slots_of: dict[type[Recipe], list[tuple[str, type[Recipe]]]] = {}
        self._fillings: dict[tuple[int, type[Recipe]], tuple[Node, Any]] = {}

    def check(self, node: Node) -> Workload | None:
        """Return the workload that `node` describes, or note what is wrong with it."""
        owner = recipe_class(node, Workload, self._lookup)
        plain: Any = node.plain
        if owner and isinstance(node, Table):
            plain = dict(plain)
            for name, kind in self._slots(owner):
                if plain.get(name) is not None:
                    plain[name] = self._filling(name, node.entries[name].value, kind)
            if any(value is _BROKEN for value in plain.values()):
                return None
        return check(Workload, node, "workload", self._lookup, self._mistakes, plain)  # type: ignore[type-abstract]

    def _slots(self, owner: type[Recipe]) -> list[tuple[str, type[Recipe]]]:
        """Return the slots of a class, each with its kind."""
        if owner not in self._slots_of:
            fields = owner.model_fields.items()
            slots = [(name, slot_kind(field.annotation)) for name, field in fields]
            self._slots_of[owner] = [(name, kind) for name, kind in slots if kind]
        return self._slots_of[owner]

    def _filling(self, name: str, node: Node, kind: type[Recipe]) -> Any:
        """Return the recipe that `node` describes; plain data where it isn't valid, for later."""
        key = id(node), kind
        if key not in self._fillings:
            self._fillings[key] = node, _BROKEN
            try:
                self._fillings[key] = node, kind.of(node.plain, self._lookup)
            except ValidationError:
                self._fillings[key] = node, node.plain
            except Exception as error:
                self._mistakes.add(node.place, f"workload.{name}: {_raised(error)}")
        return self._fillings[key][1]


def _raised(error: Exception) -> str:
    """Say that a recipe's own code failed."""
    return f"checking it raised {type(error).__name__}: {error}"


def check(
    kind: type[R],
    node: Node,
    trail: str,
    lookup: Lookup,
    mistakes: Mistakes,
    plain: Any = None,
) -> R | None:
    """Return the recipe of `kind` that `node` describes, or note what is wrong with it.

    `plain` is the node's plain data with recipes in place of what is known to be valid.
    """
    try:
        return kind.of(node.plain if plain is None else plain, lookup)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_context=False, include_input=False):
            place, path = locate(node, kind, problem["loc"], trail, lookup)
            bare = problem["type"] in ("value_error", "assertion_error")
            text = problem["msg"].partition(", ")[2] if bare else problem["msg"]
            mistakes.add(place, f"{path}: {text}")
    except Exception as error:  # a validator of a plugin
        mistakes.add(node.place, f"{trail}: {_raised(error)}")
    return None


def locate(
    node: Node, kind: type[Recipe], loc: Sequence[int | str], trail: str, lookup: Lookup
) -> tuple[Place, str]:
    """Return where the value at `loc` is written, and its path.

    An unknown parameter is at its key, a wrong value at the value, a missing one at the mapping.
    """
    place = node.place
    slot: type[Recipe] | None = kind
    for part in loc:
        if isinstance(node, Table) and str(part) in node.entries:
            owner = recipe_class(node, slot, lookup) if slot else None
            field = owner.model_fields.get(str(part)) if owner else None
            key, node = node.entries[str(part)]
            place = key if owner and not field else node.place
            slot = slot_kind(field.annotation) if field else None
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            place = node.place
        else:
            return place, trail
        trail = f"{trail}.{part}"
    name = node.get("use") if isinstance(node, Table) else None
    if name and slot and recipe_class(node, slot, lookup) is None:
        place = name.place
    return place, trail
