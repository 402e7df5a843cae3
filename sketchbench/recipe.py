"""Recipes: frozen models that a suite names and fills, and that build the live thing."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Protocol, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError


class UnknownName(LookupError):
    """A kind or a recipe that nobody registered; its text says what is known."""


class Lookup(Protocol):
    """What a slot needs to turn a name into a class: the registry, or a test's stand-in."""

    def lookup(self, kind: str, name: str) -> type[Recipe]:
        """Return the class of `kind` called `name`, or raise `UnknownName`."""


class Recipe(BaseModel):
    """Base of everything a plugin registers; subclass it through a kind.

    Fields are YAML parameters, the docstring is the description, `build` (fixed by the kind)
    makes the live thing. Two recipes are equal when their `config()` is.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
        use_attribute_docstrings=False,
    )

    kind: ClassVar[str]
    name: ClassVar[str]

    @property
    def period(self) -> int:
        """Steps after which this recipe's work repeats (a preconditioner renewed every ten)."""
        return 1

    @property
    def changing(self) -> bool:
        """Whether what it keeps in memory changes over time (a rank schedule)."""
        return False

    def config(self) -> dict[str, Any]:
        """Return the JSON form, defaults and `use` included; validating it gives this recipe."""
        return self.model_dump(mode="json", serialize_as_any=True)

    def parts(self) -> Iterator[Recipe]:
        """Yield this recipe and every recipe in its slots, depth first."""
        yield self
        for field in type(self).model_fields:
            value = getattr(self, field)
            if isinstance(value, Recipe):
                yield from value.parts()

    def full_period(self) -> int:
        """Return the least number of steps that is whole for this recipe and all its parts."""
        return math.lcm(*(part.period for part in self.parts()))

    def label(self) -> str:
        """Return the name with the parameters that differ from their defaults."""
        differing = [
            f"{field}={_short(getattr(self, field))}"
            for field, info in type(self).model_fields.items()
            if info.is_required() or getattr(self, field) != info.default
        ]
        return f"{self.name}({', '.join(differing)})" if differing else self.name

    @classmethod
    def of(cls, value: Any, lookup: Lookup) -> Self:
        """Validate a name, a `{use: name, …}` mapping or a recipe; raise `ValidationError`."""
        return cls.model_validate(value, context=lookup)

    @model_serializer(mode="wrap")
    def _named(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"use": self.name, **dump(self)}

    @model_validator(mode="wrap")
    @classmethod
    def _resolved(
        cls, value: Any, validate: ModelWrapValidatorHandler[Self], info: ValidationInfo
    ) -> Self:
        if isinstance(value, cls):
            return value
        if not hasattr(cls, "name"):  # a kind, not a recipe: find the recipe that is meant
            concrete = _concrete(cls, value, info.context)
            return concrete.model_validate(value, context=info.context)  # type: ignore[return-value]
        if isinstance(value, str):
            value = {"use": value}
        if not isinstance(value, Mapping) or value.get("use", cls.name) != cls.name:
            raise PydanticCustomError("sketchbench.recipe", f"expected '{cls.name}' alone here")
        try:
            return validate({k: _tuples(v) for k, v in value.items() if k != "use"})
        except ValidationError as error:
            raise ValidationError.from_exception_data(
                cls.name, [_explained(cls, problem) for problem in error.errors()]
            ) from None


def suggest(word: str, known: Iterable[str]) -> str:
    """Phrase the nearest known word and all known ones, for the end of an error message."""
    words = sorted(map(str, known))
    near = difflib.get_close_matches(word, words, n=1)
    listed = ", ".join(words[:24]) + (f", … {len(words) - 24} more" if len(words) > 24 else "")
    return (f"did you mean '{near[0]}'? " if near else "") + f"(known: {listed or 'none'})"


def slot_kind(annotation: Any) -> type[Recipe] | None:
    """Return the kind that a field of this annotation takes (`Kind` or `Kind | None`)."""
    choices = getattr(annotation, "__args__", None) or (annotation,)
    for choice in choices:
        if inspect.isclass(choice) and issubclass(choice, Recipe):
            return choice
    return None


def _concrete(kind: type[Recipe], value: Any, lookup: Lookup | None) -> type[Recipe]:
    name = value.get("use") if isinstance(value, Mapping) else value
    if not isinstance(name, str):
        raise PydanticCustomError(
            "sketchbench.slot",
            "expected one {kind}: a name, or a mapping with 'use'; got {value}",
            {"kind": kind.kind, "value": _short(value)},
        )
    if lookup is None:
        raise PydanticCustomError("sketchbench.slot", "names need a registry; pass one as context")
    try:
        found = lookup.lookup(kind.kind, name)
    except UnknownName as error:
        raise PydanticCustomError(
            "sketchbench.unknown_name", "{text}", {"text": str(error)}
        ) from None
    if not issubclass(found, kind):
        raise PydanticCustomError(
            "sketchbench.slot", "'{name}' is no {wanted}", {"name": name, "wanted": kind.__name__}
        )
    return found


def _explained(cls: type[Recipe], problem: Any) -> InitErrorDetails:
    text, loc = problem["msg"], problem["loc"]
    if problem["type"] == "extra_forbidden" and len(loc) == 1:
        known = suggest(str(loc[0]), cls.model_fields)
        text = f"{cls.kind} '{cls.name}' has no parameter '{loc[0]}'; {known}"
    elif problem["type"] == "missing" and len(loc) == 1:
        text = f"{cls.kind} '{cls.name}' needs '{loc[0]}'"
    elif problem["type"] in ("value_error", "assertion_error"):
        text = text.split(", ", 1)[-1]
    elif not problem["type"].startswith("sketchbench."):
        text = f"{text[:1].lower()}{text[1:]}; got {_short(problem['input'])}"
    return InitErrorDetails(
        type=PydanticCustomError("sketchbench.problem", "{text}", {"text": text}),
        loc=loc,
        input=problem["input"],
    )


def _tuples(value: Any) -> Any:
    """Return `value` with every list a tuple: recipes are hashable, YAML knows lists only."""
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value


def _short(value: Any) -> str:
    if isinstance(value, Recipe):
        return value.label()
    if isinstance(value, str):
        return value if len(value) <= 60 else value[:57] + "…"
    if isinstance(value, Mapping):
        return "a mapping"
    text = (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )
    return text if len(text) <= 60 else text[:57] + "…"
