"""`sketchbench export`: the stored numbers as tidy rows for other tools."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import click

from sketchbench.cli.telling import fail, resolver, told


@click.command(name="export")
@click.argument("results", type=click.Path(path_type=Path))
@click.option(
    "--format",
    type=click.Choice(["csv", "jsonl"]),
    required=True,
    help="Rows of comma-separated values, or one JSON object a line.",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Default: stdout.")
@click.option("--samples", is_flag=True, help="Also every sample behind a value.")
def command(results: Path, format: str, output: Path | None, samples: bool) -> None:
    """Write every number in RESULTS, a results folder or file, as one tidy row."""
    from sketchbench.report import export, plans
    from sketchbench.store import Store

    with told(), Store.open(results) as store:
        found = plans.plans(store)
        if not found:
            fail(f"no results in {store.path}")
        rows = export.rows(found, resolver()[0], samples)
        if output is None:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="")
            export.WRITERS[format](rows, sys.stdout)
        else:
            export.save(rows, output, format)
