"""Child processes: started, listened to, timed out, buried. They are forks of a server that has
torch loaded, and no CUDA context; where nothing forks they are spawned.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any

from sketchbench.discovery import exit_text
from sketchbench.execute import lifeline, preload, worker

LOG_BYTES = 8192  # of a failed child's output, kept in the record


@dataclass
class Child:
    """A pass in progress."""

    request: dict[str, Any]
    process: Any
    pipe: Any
    log: Path
    started: float
    deadline: float
    kills: int
    answer: dict[str, Any] | None = None
    news: list[dict[str, Any]] = field(default_factory=list)

    def listen(self) -> None:
        """Take in whatever the child has sent."""
        try:
            while self.pipe.poll():
                message = json.loads(self.pipe.recv_bytes())
                if "news" in message:
                    self.news.append(message["news"])
                else:
                    self.answer = message["answer"]
        except (EOFError, ConnectionResetError):
            return


class Isolated:
    """Starts children and reports how they end; a context manager that leaves none behind."""

    def __init__(
        self, device: str, quarantined: Mapping[str, str], served: bool = hasattr(os, "fork")
    ) -> None:
        self._variables = {
            preload.DRIVER: str(os.getpid()),
            preload.SERVED: "yes" if served else "no",
            preload.QUARANTINED: json.dumps(dict(quarantined)),
        }
        if served:
            self._context: Any = multiprocessing.get_context("forkserver")
            self._context.set_forkserver_preload([preload.__name__])
        else:
            self._context = multiprocessing.get_context("spawn")
        if device == "cuda":  # read when a process makes its context: set before it starts
            workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            self._variables["CUBLAS_WORKSPACE_CONFIG"] = workspace
        self._folder = tempfile.TemporaryDirectory(prefix="sketchbench-")
        self._count = 0
        self._children: list[Child] = []

    def __enter__(self) -> Isolated:
        return self

    def __exit__(self, *_: object) -> None:
        for child in list(self._children):
            self._bury(child)
        self._folder.cleanup()

    def start(self, request: dict[str, Any], timeout: float) -> Child:
        """Start a child that does `request` and is killed after `timeout` seconds."""
        with _undisturbed():
            return self._started(request, timeout)

    def _started(self, request: dict[str, Any], timeout: float) -> Child:
        self._count += 1
        log = Path(self._folder.name) / f"{self._count}.log"
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=worker.child, args=(sender, request | {"log": str(log)})
        )
        with _without_main(), _variables(self._variables):
            process.start()
        sender.close()
        now = time.monotonic()
        child = Child(request, process, receiver, log, now, now + timeout, _kernel_kills())
        self._children.append(child)
        return child

    def wait(self, seconds: float) -> Iterator[tuple[Child, dict[str, Any] | None]]:
        """Yield (child, answer) for each that ended, (child, None) for each with news."""
        first = min((child.deadline for child in self._children), default=0.0)
        handles = [h for child in self._children for h in (child.pipe, child.process.sentinel)]
        connection.wait(handles, max(0.0, min(seconds, first - time.monotonic())))
        for child in list(self._children):
            ended = not child.process.is_alive()
            child.listen()
            if child.answer is not None or ended:
                yield child, self._answer(child)
            elif time.monotonic() >= child.deadline:
                self._bury(child)
                limit = child.deadline - child.started
                yield child, _failure("timeout", f"killed after {limit:g} s") | _tail(child)
            elif child.news:
                yield child, None

    def _answer(self, child: Child) -> dict[str, Any]:
        if child.answer is None:
            child.process.join()
        else:
            child.process.join(5)
        code = child.process.exitcode
        self._bury(child)
        if child.answer is not None:
            return child.answer | ({} if child.answer["status"] == "ok" else _tail(child))
        if code == -signal.SIGKILL and _kernel_kills() > child.kills:
            return _failure("oom", "killed by the kernel: out of memory") | _tail(child)
        how = exit_text(code)
        return _failure("crash", f"the process ended with {how} and no answer") | _tail(child)

    def _bury(self, child: Child) -> None:
        """Kill the child and every process of its group, and forget it."""
        lifeline.end_group(child.process.pid)
        child.process.join()
        child.pipe.close()
        self._children.remove(child)


@contextlib.contextmanager
def _variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for what is started meanwhile, and for nothing else."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Hold an interrupt back until a child that is being started is known, and can be killed."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _failure(status: str, reason: str) -> dict[str, Any]:
    return {"status": status, "reason": reason, "measurements": [], "events": []}


def _tail(child: Child) -> dict[str, str]:
    """Return the end of what the child printed, for the record of its failure."""
    try:
        content = child.log.read_bytes()
    except OSError:
        return {"log": ""}
    return {"log": content[-LOG_BYTES:].decode(errors="replace")}


def _kernel_kills() -> int:
    """Return how many processes the kernel has killed for want of memory since boot (Linux)."""
    stat = Path("/proc/vmstat")
    lines: Sequence[str] = stat.read_text().splitlines() if stat.exists() else ()
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide `__main__` while a child starts: multiprocessing would import it there again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
