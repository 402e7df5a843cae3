"""`sketchbench plugins`: who is installed, and what is in quarantine."""

from __future__ import annotations

import click


@click.command(name="plugins")
def command() -> None:
    """List the plugins with versions and what they register; then those in quarantine, and why."""
    from sketchbench import __version__
    from sketchbench.registry import Registry

    registry = Registry.load()
    for name, found in registry.plugins.items():
        offers = [f"{r.kind}/{r.name}" for r, origin in registry.origin.items() if origin == name]
        source = f"{found.distribution} {found.version}" if found else f"sketchbench {__version__}"
        click.echo(f"{name}  {source}")
        click.echo(f"    {', '.join(offers) or 'registers nothing'}")
    for name, reason in registry.quarantined.items():
        click.echo(f"{name}  in quarantine: {reason}")
