"""`sketchbench report`: what the stored records say."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from sketchbench.report.groups import Derive


@click.command(name="report")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    envvar="SKETCHBENCH_RESULTS",
    default=Path("results"),
    show_default=True,
    help="Folder of the results, where TARGET is a suite.",
)
def command(target: Path, results: Path) -> None:
    """Show the results of TARGET: a suite file, or a results folder or file for all in it.

    Nothing is run. Exit status: 0 if something was shown, 2 otherwise.
    """
    from rich.console import Console

    from sketchbench.report import terminal
    from sketchbench.store import Store

    suite = None
    with told():
        if not target.is_dir() and target.suffix != ".sqlite":
            suite = suite_name(target)
        else:
            results = target
        with Store.open(results) as store:
            if terminal.show(store, suite, Console(), resolver()):
                return
            known = ", ".join(dict.fromkeys(name for name, *_ in store.outlines())) or "none"
            wanted = "" if suite is None else f" for suite '{suite}'"
            fail(f"no results{wanted} in {store.path}; known: {known}")


def suite_name(path: Path) -> str:
    """Return what a suite file calls itself, without expanding it."""
    import yaml

    try:
        with path.open(encoding="utf-8-sig") as file:
            root = yaml.compose(file, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        fail(f"{place}: {error.problem or error.context}; not YAML")
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError) as error:
        fail(f"{path}: {one_line(error)}; neither a suite file nor a results folder")
    if isinstance(root, yaml.MappingNode):
        for key, value in root.value:
            if key.value == "suite" and isinstance(value, yaml.ScalarNode):
                return str(value.value)
    fail(f"{path}: no 'suite:' key; name a suite file, a results folder or a .sqlite file")


def resolver() -> Derive:
    """Return what makes a derived metric of its configuration; plugins load when it is called."""

    @functools.cache
    def registry() -> Any:
        from sketchbench.registry import Registry

        return Registry.load()

    def derive(config: Mapping[str, Any]) -> Any:
        from pydantic import ValidationError

        from sketchbench.kinds import Derived, Metric
        from sketchbench.recipe import UnknownName

        try:
            metric = Metric.of(config, registry())
        except (ValidationError, UnknownName):
            return None
        return metric if isinstance(metric, Derived) else None

    return derive


@contextmanager
def told() -> Iterator[None]:
    """End with status 2 and one line, where results or a file can't be read or written."""
    from sketchbench.store import StoreError

    try:
        yield
    except StoreError as error:
        fail(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        fail(f"{error.filename or 'output'}: {error.strerror or one_line(error)}")


def one_line(error: object) -> str:
    """Return an error's text as one line."""
    return " ".join(str(error).split())


def fail(text: str) -> NoReturn:
    """Print one line on standard error and end with status 2."""
    click.echo(text, err=True)
    sys.exit(2)
