"""Ties processes together: when the driver dies, however, so does all that it started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from types import FrameType

import psutil

_PR_SET_PDEATHSIG = 1
_WATCH_SECONDS = 0.2


def die_with(parent: int, by: signal.Signals = signal.SIGKILL) -> None:
    """End this process when `parent` does: by the kernel on Linux, by a watch elsewhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, by)
    else:
        threading.Thread(target=_watch, args=(parent, by), daemon=True).start()
    if os.getppid() != parent:  # it died before the line above took hold
        os._exit(1)


def serve(driver: int) -> None:
    """Make this process, a fork server, end with `driver`, and take its children's groups along.

    A child has processes of its own (data loaders, say) that nobody else would end.
    """
    signal.signal(signal.SIGTERM, _end_groups)
    _unblock()
    die_with(driver, signal.SIGTERM)


def lead_group(parent: int, watched: bool) -> None:
    """Make this process the head of a new group that ends with `parent`.

    Where the parent is no fork server, `watched` adds a process that ends the group.
    """
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what an interrupt means
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _unblock()
    die_with(parent)
    if watched and hasattr(os, "fork"):
        _watch_group(os.getpid())


def end_group(leader: int) -> None:
    """Kill a process and every process of the group that it leads."""
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(leader, signal.SIGKILL)


def _unblock() -> None:
    """Let signals through that the driver held back while it started this process."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


def _end_groups(number: int, frame: FrameType | None) -> None:
    for child in psutil.Process().children():
        end_group(child.pid)
    os._exit(0)


def _watch_group(leader: int) -> None:
    """Fork a process that outlives `leader` by a moment, to end what it leaves behind."""
    if os.fork():
        return
    os.setpgid(0, 0)
    with contextlib.suppress(BaseException):
        os.closerange(0, 1024)  # the driver must not wait for what only this process holds open
        while os.getppid() == leader:
            time.sleep(_WATCH_SECONDS)
        end_group(leader)
    os._exit(0)


def _watch(parent: int, by: signal.Signals) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), by)
