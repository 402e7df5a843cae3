"""CPU seconds of a call and of a command, as steady as a busy machine lets them be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS = 5  # apart from one another: what slows a machine comes and goes
PAUSE = 0.2  # seconds between them
SPENT = """
import ctypes, json, os, resource, subprocess, sys
if ctypes.CDLL(None).prctl(36, 1, 0, 0, 0):  # PR_SET_CHILD_SUBREAPER: orphans come to this process
    sys.exit("prctl refused")
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
try:
    while os.waitpid(-1, 0):
        pass
except ChildProcessError:
    pass
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([status, used.ru_utime + used.ru_stime]))
"""


def least(call: Callable[[], object], seconds: float = 0.1) -> float:
    """Return the CPU seconds of one call: the mean in the best of `ROUNDS` rounds."""
    call()
    start, count = time.process_time(), 0
    while time.process_time() - start < seconds:
        call()
        count += 1
    means = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(count):
            call()
        means.append((time.process_time() - start) / count)
        time.sleep(PAUSE)
    return min(means)


def spent(*words: str | Path, cwd: Path | None = None) -> float:
    """Return the CPU seconds of a command and of all processes that come of it, on Linux.

    Raises `RuntimeError` where the command fails, `NotImplementedError` on other systems.
    """
    if not sys.platform.startswith("linux"):
        raise NotImplementedError("orphans' CPU time is counted on Linux alone")
    command = [sys.executable, "-c", SPENT, *map(str, words)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, env=one_thread, capture_output=True, text=True)
    said = " ".join(done.stderr.split())[-300:]
    if done.returncode:
        raise RuntimeError(said)
    status, seconds = json.loads(done.stdout)
    if status:
        raise RuntimeError(f"{' '.join(map(str, words))} ended with {status}: {said}")
    return float(seconds)
