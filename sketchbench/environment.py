"""What a number was measured on: machine, software, and the state of the checkout."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil


def describe(plugins: Iterable[str] = ()) -> dict[str, Any]:
    """Return the facts of this machine and software as plain JSON; unknown facts are None."""
    import torch

    from sketchbench.linalg import factor_order

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "cores": cores(),
        "physical_cores": psutil.cpu_count(logical=False),
        "memory_bytes": psutil.virtual_memory().total,
        "torch": torch.__version__,
        "numba": version("numba"),  # it compiles transforms on the CPU where it is installed
        "hadamard_factors": {kind: factor_order(kind) for kind in ("cpu", "cuda")},
        "cuda": torch.version.cuda,
        "driver": _driver(),
        "gpus": _gpus(),
        "distributions": {name: version(name) for name in sorted({"sketchbench", *plugins})},
        **_checkout(Path(__file__).parent),
    }


def machine() -> str:
    """Return the name under which this machine's records are kept."""
    return platform.node() or "unknown"


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads(jobs: int) -> int:
    """Return the threads of a cell, of which `jobs` run at a time: an equal share of the cores.

    Or OMP_NUM_THREADS, where that says so: threads that share a core with other work wait for one
    another, and a cell may take several times as long. Raises `ValueError` where it is no count.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if not asked:
        return max(1, cores() // jobs)
    if not asked.isdecimal() or int(asked) < 1:
        raise ValueError(f"OMP_NUM_THREADS: '{asked}' is no number of threads; take 1 or more")
    return int(asked)


def version(distribution: str) -> str | None:
    """Return the installed version of a distribution, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """Return the CPU's model name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _driver() -> str | None:
    info = Path("/proc/driver/nvidia/version")
    if not info.exists():
        return None
    line = info.read_text(errors="replace").splitlines()[0]
    found = re.search(r"\d+(\.\d+)+", line)
    return found[0] if found else line


def _gpus() -> list[str]:
    """Return the models of NVIDIA's GPUs, read where no CUDA context is made for it (Linux)."""
    found = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    lines = [line for file in found for line in file.read_text(errors="replace").splitlines()]
    return [line.split(":", 1)[1].strip() for line in lines if line.startswith("Model:")]


def _checkout(folder: Path) -> dict[str, Any]:
    """Return the commit that the core is imported from, and whether files differ from it."""
    if any(part in ("site-packages", "dist-packages") for part in folder.parts):
        return {"commit": None, "dirty": None}
    commit = _git(folder, "rev-parse", "HEAD")
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else None
    return {"commit": commit or None, "dirty": None if changed is None else bool(changed)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def python() -> str:
    """Return the interpreter's implementation and version, part of every cell's key."""
    return f"{sys.implementation.name}-{platform.python_version()}"
