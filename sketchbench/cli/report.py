"""`sketchbench report`: what the stored records say."""

from __future__ import annotations

from pathlib import Path

import click

from sketchbench.cli.selection import RESULTS
from sketchbench.cli.telling import fail, one_line, resolver, told


@click.command(name="report")
@click.argument("target", type=click.Path(path_type=Path))
@RESULTS
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
            derive, resolve = resolver()
            if terminal.show(store, suite, Console(), derive, resolve=resolve):
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
