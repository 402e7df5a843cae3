"""Laws of every recipe: its configuration is the whole of it, and it says what it is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from sketchbench.kinds import KINDS
from sketchbench.recipe import Recipe, UnknownName


class Only:
    """A stand-in for the registry that knows the recipes of one subject and its slots."""

    def __init__(self, subject: Recipe) -> None:
        self._known = {(part.kind, part.name): type(part) for part in subject.parts()}

    def lookup(self, kind: str, name: str) -> type[Recipe]:
        """Return the subject's class, or that of a recipe in its slots."""
        if (kind, name) not in self._known:
            raise UnknownName(f"{kind} '{name}' is no part of this test's subject")
        return self._known[kind, name]


def comes_back_from_its_config(subject: Recipe) -> None:
    """Validating config(), by way of JSON, gives an equal recipe."""
    again = _validated(subject, json.loads(json.dumps(subject.config())))
    assert again == subject, (
        f"expected config() to give the recipe back; {subject.config()} became {again.config()}"
    )


def is_hashable(subject: Recipe) -> None:
    """Equal recipes have equal hashes: fields are frozen values, lists are tuples."""
    again = _validated(subject, subject.config())
    assert hash(again) == hash(subject), "expected equal recipes to have equal hashes"


def has_a_name_and_a_label(subject: Recipe) -> None:
    """The name is kebab-case; the label is one line that begins with it."""
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", subject.name), (
        f"expected a kebab-case name (letters, digits, single hyphens); got '{subject.name}'"
    )
    label = subject.label()
    assert label.startswith(subject.name), f"expected the label to begin with the name: '{label}'"
    assert "\n" not in label, f"expected a label of one line: '{label}'"


def changes_its_config_with_every_field(subject: Recipe) -> None:
    """Two recipes that differ in a field differ in config(), and so in the key of their cells."""
    for field in type(subject).model_fields:
        for other in _changed(subject, field):
            assert other.config() != subject.config(), (
                f"expected another '{field}' ({getattr(other, field)!r} for "
                f"{getattr(subject, field)!r}) to show in config()"
            )


def says_what_it_is(subject: Recipe) -> None:
    """The class has a docstring of its own, and every field a description."""
    own = vars(type(subject)).get("__doc__") or ""
    assert own.strip(), f"expected {type(subject).__name__} to have a docstring of its own"
    silent = [name for name, info in type(subject).model_fields.items() if not info.description]
    assert not silent, f"expected Field(…, description=…) for: {', '.join(silent)}"


LAWS = (
    comes_back_from_its_config,
    is_hashable,
    has_a_name_and_a_label,
    changes_its_config_with_every_field,
    says_what_it_is,
)


def _validated(subject: Recipe, config: Any) -> Recipe:
    return KINDS[subject.kind].of(config, Only(subject))


def _changed(subject: Recipe, field: str) -> Iterator[Recipe]:
    """Yield the subject with another value of `field`, where one is found that is valid."""
    value = getattr(subject, field)
    for other in _others(value):
        try:
            changed = _validated(subject, {**subject.config(), field: other})
        except ValidationError:
            continue
        if getattr(changed, field) != value:
            yield changed


def _others(value: Any) -> list[Any]:
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value - 1, value * 2, value / 2]
    if isinstance(value, tuple):
        return [value[:-1], value[::-1], tuple(other for v in value for other in _others(v)[:1])]
    return [None, True, 1, 0.5, "all", "hidden"]
