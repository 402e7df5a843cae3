"""Checking: plain data into recipes, and every mistake back to the place where it is written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import ValidationError

from sketchbench.recipe import Lookup, Recipe, slot_kind
from sketchbench.suite.mistakes import Mistakes, Place
from sketchbench.suite.nodes import Items, Node, Table
from sketchbench.suite.paths import recipe_class

R = TypeVar("R", bound=Recipe)


def check(kind: type[R], node: Node, trail: str, lookup: Lookup, mistakes: Mistakes) -> R | None:
    """Return the recipe of `kind` that `node` describes, or note what is wrong with it."""
    try:
        return kind.of(node.plain, lookup)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_context=False, include_input=False):
            place, path = locate(node, kind, problem["loc"], trail, lookup)
            mistakes.add(place, f"{path}: {problem['msg']}")
    except Exception as error:  # a validator of a plugin
        mistakes.add(node.place, f"{trail}: checking it raised {type(error).__name__}: {error}")
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
