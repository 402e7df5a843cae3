"""Finding plugins: entry points, and a probe child that imports each one first.

An import may raise, end the process, hang it, or start threads (a fork after a parallel kernel
hangs every child). The probe finds out in a process that nobody misses.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

GROUP = "sketchbench"
Use = Callable[[str, object], object]
IMPORT_SECONDS = 120.0  # an import that takes longer counts as hanging


@dataclass(frozen=True)
class Found:
    """An installed plugin: its entry point, and the distribution that it came with."""

    name: str
    target: str
    distribution: str
    version: str

    def load(self) -> object:
        """Import the plugin."""
        return metadata.EntryPoint(self.name, self.target, GROUP).load()


def entry_points() -> list[Found]:
    """Return every installed plugin, by name; two distributions may claim one name."""
    points = [(point, point.dist) for point in metadata.entry_points(group=GROUP)]
    found = {
        Found(point.name, point.value, dist.name if dist else "", dist.version if dist else "")
        for point, dist in points
    }
    return sorted(found, key=lambda plugin: (plugin.name, plugin.distribution))


def probe(plugins: Sequence[Found], use: Use = lambda name, plugin: None) -> dict[str, str]:
    """Import and `use` each plugin in a child; return why some must not be imported here.

    What `use` raises is left for this process to find; how it ends the child is not.
    """
    import torch  # noqa: F401  the child inherits it, and every plugin needs it

    bad: dict[str, str] = {}
    left = list(plugins)
    while left:
        answers, ending = _probe_once(left, use)
        bad |= {name: reason for name, reason in answers.items() if reason}
        left = left[len(answers) :]
        if left and ending:
            bad[left.pop(0).name] = ending
    return bad


def raised(error: BaseException) -> str:
    """Return one line for an exception: type, text, and the line of code it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    text = " ".join(str(error).split())
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if not frames:
        return line
    place = Path(frames[-1].filename)
    return f"{line} ({'/'.join(place.parts[-2:])}:{frames[-1].lineno})"


def exit_text(code: int | None) -> str:
    """Return how a process ended, from its exit code: `SIGSEGV` or `exit status 3`."""
    if code is not None and code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit status {code}"


def _probe_once(plugins: list[Found], use: Use) -> tuple[dict[str, str], str]:
    """Probe until the first plugin that takes the child down; return answers and its ending."""
    context: Any = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_import_each, args=(plugins, use, sender), daemon=True)
    child.start()
    sender.close()
    answers: dict[str, str] = {}
    try:
        for plugin in plugins:
            if not receiver.poll(IMPORT_SECONDS):
                return answers, f"its import does not end within {IMPORT_SECONDS:g} s"
            answers[plugin.name] = receiver.recv()
    except (EOFError, ConnectionResetError):
        child.join()
        return answers, f"its import ends the process ({exit_text(child.exitcode)})"
    finally:
        child.kill()
        child.join()
        receiver.close()
    return answers, ""


def _import_each(plugins: list[Found], use: Use, sender: Connection) -> None:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # its pool survives a fork; others do not
    sys.stdout = sys.stderr  # what an import prints must not get among results
    for plugin in plugins:
        before = _threads()
        try:
            loaded = plugin.load()
        except BaseException as error:
            sender.send(f"its import raises {raised(error)}")
            continue
        with contextlib.suppress(BaseException):
            use(plugin.name, loaded)
        started = _threads() - before
        sender.send(
            f"its import starts {started} thread{'s' if started > 1 else ''} (a parallel kernel, "
            "a pool): no process can fork after that; move it into `build`"
            if started > 0
            else ""
        )


def _threads() -> int:
    tasks = Path("/proc/self/task")
    return len(list(tasks.iterdir())) if tasks.exists() else threading.active_count()
