"""How commands end when a request or a file is wrong, and how they find derived metrics."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from sketchbench.registry import Registry
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


def resolver(loaded: Registry | None = None) -> Derive:
    """Return what makes a derived metric of its configuration; plugins load when it is called."""

    @functools.cache
    def registry() -> Registry:
        from sketchbench.registry import Registry

        return loaded or Registry.load()

    def derive(config: Mapping[str, Any]) -> Any:
        from pydantic import ValidationError

        from sketchbench.kinds import Derived, Metric

        try:
            metric = Metric.of(config, registry())
        except ValidationError:
            return None
        return metric if isinstance(metric, Derived) else None

    return derive
