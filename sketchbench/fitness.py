"""The contract of a recipe: what the registry refuses, and why."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Mapping

from sketchbench.kinds import KINDS, Derived, Metric, Probe, Score, Workload
from sketchbench.recipe import Recipe

_NAME = re.compile(r"[a-z0-9]+([-_][a-z0-9]+)*")
_MUTABLE = (list, dict, set, bytearray)


class Unfit(Exception):
    """A plugin registered something that breaks the contract of a recipe."""


def check(recipe: object, families: tuple[type[Recipe], ...]) -> type[Recipe]:
    """Return `recipe` if it may be registered as one of `families`; raise `Unfit` otherwise."""
    if not (inspect.isclass(recipe) and issubclass(recipe, Recipe)):
        raise Unfit(f"{recipe!r} is not a recipe class")
    if not issubclass(recipe, families):
        wanted = " or ".join(family.__name__ for family in families)
        raise Unfit(f"{recipe.__name__} is no {wanted}")
    for rule in (_is_complete, _is_named, _is_described, _shadows_nothing, _is_hashable):
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


def _is_hashable(recipe: type[Recipe]) -> None:
    for field, info in recipe.model_fields.items():
        mutable = _mutable_in(info.annotation)
        if mutable:
            raise Unfit(
                f"{recipe.__name__}: field '{field}' is a {mutable}, which can't be hashed; "
                "use a tuple"
            )


def _mutable_in(annotation: object) -> str | None:
    origin = typing.get_origin(annotation) or annotation
    if inspect.isclass(origin) and (issubclass(origin, _MUTABLE) or origin is Mapping):
        return origin.__name__
    return next((m for a in typing.get_args(annotation) if (m := _mutable_in(a))), None)


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
