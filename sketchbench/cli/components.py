"""`sketchbench components`: what the installed plugins offer, with parameters and defaults."""

from __future__ import annotations

import inspect
import types
import typing
from typing import TYPE_CHECKING, Any

import click

from sketchbench.cli import telling

if TYPE_CHECKING:
    from sketchbench.recipe import Recipe
    from sketchbench.registry import Registry


@click.command(name="components")
@click.argument("which", metavar="[KIND[/NAME]]", default="")
def command(which: str) -> None:
    """List the components of each kind, of one KIND, or describe KIND/NAME."""
    from sketchbench.recipe import UnknownName, suggest
    from sketchbench.registry import Registry

    registry = Registry.load()
    kind, _, name = which.partition("/")
    if kind and kind not in registry.classes:
        telling.fail(f"components {which}: no such kind; {suggest(kind, registry.classes)}")
    if name:
        try:
            click.echo(_described(registry, registry.lookup(kind, name)))
        except UnknownName as error:
            telling.fail(f"components {which}: {error}")
        return
    for each in [kind] if kind else registry.classes:
        click.echo(each)
        known = registry.classes[each]
        width = max(map(len, known), default=0)
        for recipe in sorted(known.values(), key=lambda r: r.name):
            click.echo(f"  {recipe.name:<{width}}  {_first(recipe)}  [{registry.origin[recipe]}]")


def _described(registry: Registry, recipe: type[Recipe]) -> str:
    lines = [
        f"{recipe.kind}/{recipe.name}  [{registry.origin[recipe]}]",
        "",
        inspect.getdoc(recipe) or "",
        "",
    ]
    for fact in ("unit", "direction", "margin", "regions", "outcomes"):
        if hasattr(recipe, fact):
            lines.append(f"  {fact}: {_fact(getattr(recipe, fact))}")
    for field, info in recipe.model_fields.items():
        default = "required" if info.is_required() else f"= {_value(info.default)}"
        bounds = ", ".join(_bound(rule) for rule in info.metadata if _bound(rule))
        lines.append(
            f"  {field}: {_type(info.annotation)} {default}"
            + (f"  ({bounds})" if bounds else "")
            + f"  {info.description or ''}".rstrip()
        )
    return "\n".join(lines)


def _first(recipe: type[Recipe]) -> str:
    return (inspect.getdoc(recipe) or "").split("\n\n")[0].replace("\n", " ")


def _type(annotation: Any) -> str:
    """Spell a field's type as a suite's author sees it: kinds by their names, no validators."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(parts[0])
    if origin is typing.Literal:
        return " | ".join(map(str, parts))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(_type(part) for part in parts)
    if origin is tuple:
        return f"[{', '.join('…' if part is Ellipsis else _type(part) for part in parts)}]"
    if annotation is type(None):
        return "null"
    return str(getattr(annotation, "kind", annotation.__name__))


def _value(value: Any) -> str:
    return "null" if value is None else str(getattr(value, "name", value))


def _bound(rule: Any) -> str:
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    return next(
        (f"{sign} {getattr(rule, at)}" for at, sign in signs.items() if hasattr(rule, at)), ""
    )


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} ({kind.__name__})" for name, kind in value.items())
    return ", ".join(value) if isinstance(value, tuple) else str(value)
