"""The command line: one file a command, each imported when it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

COMMANDS = ("run", "plan", "predict", "audit", "report", "export", "components", "plugins")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and end; a wrong request is one line on standard error, and status 2."""
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    try:
        status = group.main(words, prog_name="sketchbench", standalone_mode=False)
    except click.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        where = context.command_path if context else "sketchbench"
        click.echo(f"{where}: {' '.join(error.format_message().split())}", err=True)
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


class _Lazy(click.Group):
    """A group whose commands live in modules of their own, imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"sketchbench.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from sketchbench.recipe import suggest

        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"no command is called '{args[0]}'; {suggest(args[0], COMMANDS)}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="sketchbench", message="sketchbench %(version)s")
def group() -> None:
    """Measure sketching methods for training neural networks: memory, time, accuracy."""
