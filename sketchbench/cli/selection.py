"""What `run` and `plan` share: which cells of a suite are meant, and how mistakes are told."""

from __future__ import annotations

import dataclasses
import functools
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sketchbench.cli.telling import fail, told

if TYPE_CHECKING:
    from sketchbench.execute.keys import Keys
    from sketchbench.registry import Registry
    from sketchbench.suite import Suite

RESULTS = click.option(
    "--results",
    type=click.Path(path_type=Path),
    envvar="SKETCHBENCH_RESULTS",
    default=Path("results"),
    show_default=True,
    help="Folder of the results.",
)
_OPTIONS = (
    click.argument("suite", type=click.Path(path_type=Path)),
    click.option("--preset", metavar="NAME", help="Apply one of the suite's presets."),
    click.option("--set", "sets", metavar="PATH=VALUE", multiple=True, help="Change a parameter."),
    click.option("--only", metavar="GLOB", multiple=True, help="Cells whose label matches."),
    click.option("--seeds", type=click.IntRange(1), metavar="N", help="Seeds 0 to N-1."),
    click.option("--device", default="auto", metavar="cpu|cuda|auto", show_default=True),
    RESULTS,
    click.option(
        "--jobs",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        metavar="N",
        help="Cells at a time; they share the cores (or OMP_NUM_THREADS each), and the clock.",
    ),
)


@dataclass(frozen=True)
class Selection:
    """Which cells of which suite a call means, and where their results are."""

    suite: Path
    preset: str | None
    sets: tuple[str, ...]
    only: tuple[str, ...]
    seeds: int | None
    device: str
    results: Path
    jobs: int


@dataclass(frozen=True)
class Chosen:
    """A suite, expanded against the installed plugins."""

    suite: Suite
    registry: Registry
    keys: Keys
    device: str
    jobs: int


def selecting(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that choose cells of a suite; the command gets them as one `Selection`."""
    names = [field.name for field in dataclasses.fields(Selection)]

    @functools.wraps(command)
    def gathered(**values: Any) -> None:
        command(Selection(**{name: values.pop(name) for name in names}), **values)

    for option in reversed(_OPTIONS):
        gathered = option(gathered)
    return gathered


def choose(wanted: Selection, absent: bool = False) -> Chosen:
    """Load the plugins and expand the suite; end with status 2 and a line a mistake.

    With `absent`, the device need not be on this machine.
    """
    from sketchbench import environment
    from sketchbench.execute.keys import Keys
    from sketchbench.registry import Registry
    from sketchbench.suite import Suite, SuiteError

    with told(SuiteError):
        kind = device_kind(wanted.device, absent)
        registry = Registry.load()
        suite = Suite.read(
            wanted.suite,
            registry,
            preset=wanted.preset,
            sets=wanted.sets,
            only=wanted.only,
            seeds=wanted.seeds,
            device=kind,
        )
    for name, reason in sorted(registry.quarantined.items()):
        click.echo(f"plugin '{name}' is in quarantine: {reason}", err=True)
    if suite.claims:
        click.echo(f"{wanted.suite}: 'claims' are not checked by this version", err=True)
    with told(ValueError):
        threads = environment.threads(wanted.jobs)
    return Chosen(suite, registry, Keys(threads), kind, wanted.jobs)


def device_kind(device: str, absent: bool = False) -> str:
    """Return `cpu` or `cuda`; end with status 2 where the device is unknown or not here.

    With `absent` it need not be here.
    """
    import torch

    if device not in ("cpu", "cuda", "auto"):
        fail(f"--device {device}: no such device; (known: auto, cpu, cuda)")
    if device == "cuda" and not absent and not torch.cuda.is_available():
        built = "is built without CUDA" if torch.version.cuda is None else "sees no GPU"
        fail(f"--device cuda: torch {torch.__version__} {built} here; use --device cpu")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def same_call() -> str:
    """Return the command line of this process, to be typed again for what is left to do."""
    called = sys.argv[0]
    program = [called]
    if os.path.basename(called) == "__main__.py":
        python = sys.executable
        program = [os.path.basename(python) if _on_path(python) else python, "-m", "sketchbench"]
    elif _on_path(called):
        program = [os.path.basename(called)]
    return shlex.join([*program, *(word for word in sys.argv[1:] if word != "--force")])


def _on_path(program: str) -> bool:
    found = shutil.which(os.path.basename(program))
    return found is not None and os.path.realpath(found) == os.path.realpath(program)


def device_bytes(kind: str) -> int | None:
    """Return the memory of the device that cells run on, in bytes; None where it isn't here."""
    import psutil
    import torch

    if kind == "cpu":
        return int(psutil.virtual_memory().total)
    if not torch.cuda.is_available():
        return None
    return int(torch.cuda.get_device_properties(0).total_memory)
