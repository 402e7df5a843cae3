"""How commands end when a request or a file is wrong, and how they find recipes for reports."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from sketchbench.registry import Registry
    from sketchbench.report.advice import Resolve
    from sketchbench.report.groups import Derive


@contextmanager
def told(*mistakes: type[Exception]) -> Iterator[None]:
    """End with status 2 and one line a mistake, where a file or results can't be read or written.

    `mistakes` are further exceptions whose text says all that a user needs.
    """
    from sketchbench.store import StoreError

    kinds: tuple[type[Exception], ...] = (StoreError, *mistakes)
    try:
        yield
    except kinds as error:
        fail(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        fail(f"{error.filename or 'output'}: {error.strerror or one_line(error)}")


def fail(text: str) -> NoReturn:
    """Print `text` on standard error and end with status 2."""
    click.echo(text, err=True)
    sys.exit(2)


def one_line(error: object) -> str:
    """Return an error's text as one line."""
    return " ".join(str(error).split())


def resolver(loaded: Registry | None = None) -> tuple[Derive, Resolve]:
    """Return what makes derived metrics, and activation sketches, of their configurations.

    Both return None where no plugin has the recipe; plugins load when one of them is called.
    """

    @functools.cache
    def registry() -> Registry:
        from sketchbench.registry import Registry

        return loaded or Registry.load()

    def made(kind: type[Any], config: Mapping[str, Any]) -> Any:
        from pydantic import ValidationError

        try:
            return kind.of(config, registry())
        except ValidationError:
            return None

    def derive(config: Mapping[str, Any]) -> Any:
        from sketchbench.metric import Derived, Metric

        metric = made(Metric, config)
        return metric if isinstance(metric, Derived) else None

    def resolve(config: Mapping[str, Any]) -> Any:
        from sketchbench.kinds import ActivationSketch

        return made(ActivationSketch, config)

    return derive, resolve
