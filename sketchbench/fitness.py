"""The contract of a recipe: what the registry refuses, and why."""

from __future__ import annotations

import inspect
import re
import types
import typing
from typing import Any

from pydantic import ValidationError

from sketchbench.kinds import KINDS, Workload
from sketchbench.metric import Derived, Metric, Probe, Score
from sketchbench.recipe import Recipe

_NAME = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")
_PLAIN = (bool, int, float, str)


class Unfit(Exception):
    """A plugin registered something that breaks the contract of a recipe."""


def check(recipe: object, families: tuple[type[Recipe], ...]) -> type[Recipe]:
    """Return `recipe` if it may be registered as one of `families`; raise `Unfit` otherwise."""
    if not (inspect.isclass(recipe) and issubclass(recipe, Recipe)):
        raise Unfit(f"{recipe!r} is not a recipe class")
    if not issubclass(recipe, families):
        wanted = " or ".join(family.__name__ for family in families)
        raise Unfit(f"{recipe.__name__} is no {wanted}")
    for rule in (_is_complete, _is_named, _is_described, _shadows_nothing, _is_plain, _round_trips):
        rule(recipe)
    if issubclass(recipe, Metric):
        _is_measurable(recipe)
    if issubclass(recipe, Workload):
        _says_what_it_delivers(recipe)
    return recipe


def _is_complete(recipe: type[Recipe]) -> None:
    missing = sorted(getattr(recipe, "__abstractmethods__", ()))
    if missing:
        raise Unfit(f"{recipe.__name__} does not define {', '.join(missing)}")
    if not recipe.__pydantic_complete__:
        raise Unfit(f"{recipe.__name__} has a field whose type can't be resolved at import")


def _is_named(recipe: type[Recipe]) -> None:
    for attribute in ("name", "kind"):
        if attribute in recipe.model_fields:
            raise Unfit(f"{recipe.__name__} declares '{attribute}' as a field; drop its annotation")
    name = vars(recipe).get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Unfit(
            f"{recipe.__name__} needs a `name` of its own: small letters, digits and dashes; "
            f"it has {name!r}"
        )
    if recipe.kind not in KINDS or not issubclass(recipe, KINDS[recipe.kind]):
        raise Unfit(f"{recipe.__name__} changes `kind` to '{recipe.kind}'")


def _is_described(recipe: type[Recipe]) -> None:
    if not (recipe.__doc__ or "").strip():
        raise Unfit(f"{recipe.__name__} has no docstring; it is what `components` shows")


def _shadows_nothing(recipe: type[Recipe]) -> None:
    shadowed = [field for field in recipe.model_fields if hasattr(KINDS[recipe.kind], field)]
    if shadowed:
        raise Unfit(
            f"{recipe.__name__}: field '{shadowed[0]}' shadows an attribute of every recipe"
        )


def _is_plain(recipe: type[Recipe]) -> None:
    for field, info in recipe.model_fields.items():
        odd = _odd_in(info.annotation)
        if odd is not None:
            raise Unfit(
                f"{recipe.__name__}: field '{field}' holds {odd}; a field is text, a number, a "
                "boolean, a choice of these, a tuple of these, or one slot, or null"
            )


def _odd_in(annotation: Any, inside: bool = False) -> str | None:
    """Return the part of a type that YAML can't fill, or that can't be hashed; None if all fit."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal or annotation in (Ellipsis, type(None), *_PLAIN):
        return None
    if origin is typing.Annotated:
        return _odd_in(parts[0], inside)
    if origin in (typing.Union, types.UnionType):
        return next((odd for part in parts if (odd := _odd_in(part, inside))), None)
    if origin is tuple:
        return next((odd for part in parts if (odd := _odd_in(part, inside=True))), None)
    if inspect.isclass(annotation) and issubclass(annotation, Recipe) and not inside:
        return None
    return getattr(annotation, "__name__", str(annotation))


def _round_trips(recipe: type[Recipe]) -> None:
    if any(info.is_required() for info in recipe.model_fields.values()):
        return
    try:
        made = recipe()
    except ValidationError as error:
        wrong = [problem for problem in error.errors() if problem["loc"]]
        if wrong:
            field = wrong[0]["loc"][0]
            raise Unfit(f"{recipe.__name__}: the default of '{field}': {wrong[0]['msg']}") from None
        return  # a rule about several fields: its defaults alone are no whole recipe
    slots = any(isinstance(part, Recipe) for _, part in made)
    if not slots and recipe.model_validate(made.config()) != made:
        raise Unfit(f"{recipe.__name__}: validating its own config() gives another recipe")


def _is_measurable(metric: type[Metric]) -> None:
    if not issubclass(metric, (Probe, Score, Derived)):
        raise Unfit(f"{metric.__name__} must be a Probe, a Score or a Derived")
    needed = ["unit", "direction", "margin"]
    needed += ["meter"] if issubclass(metric, Probe) else []
    needed += ["consumes"] if issubclass(metric, Score) else []
    missing = [attribute for attribute in needed if not hasattr(metric, attribute)]
    if missing:
        raise Unfit(f"{metric.__name__} does not say its {', '.join(missing)}")
    if metric.direction not in ("lower", "higher"):
        raise Unfit(
            f"{metric.__name__}: direction is 'lower' or 'higher', not {metric.direction!r}"
        )


def _says_what_it_delivers(workload: type[Workload]) -> None:
    if not (workload.regions or workload.outcomes):
        raise Unfit(
            f"{workload.__name__} declares neither regions nor outcomes: nothing to measure"
        )
