import gc
import os
import shutil
import subprocess
import sys

import pytest

from sketchbench import Missing
from sketchbench.measure import cpu_allocator

PREAMBLE = "import os, sys, torch\nfrom sketchbench.measure.cpu_allocator import install\n"


@pytest.fixture
def counters():
    """The counters, with no garbage of other tests that could be collected meanwhile."""
    try:
        found = cpu_allocator.install()
    except Missing as missing:
        pytest.skip(str(missing))
    gc.collect()
    gc.disable()
    yield found
    gc.enable()


@pytest.fixture
def alone(counters):
    """Run code in a process of its own; return what it printed."""

    def run(code, **environment):
        done = subprocess.run(
            [sys.executable, "-c", PREAMBLE + code],
            capture_output=True,
            text=True,
            env=os.environ | environment,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return run


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache that nothing was built in yet."""
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
    return tmp_path / "cache" / "sketchbench"


@pytest.fixture
def fresh(cache, monkeypatch):
    """As if nothing had asked for the counters in this process."""
    monkeypatch.setattr(cpu_allocator, "_answer", None)
    monkeypatch.delenv("CXX", raising=False)
    return cache


@pytest.fixture
def compiler(tmp_path, monkeypatch, counters):
    """Make `$CXX` a script around the system's compiler, and return the log of its calls."""
    real = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    script, log = tmp_path / "cxx", tmp_path / "calls"
    script.write_text(
        f'#!/bin/sh\ncase "$1" in --version) ;; *) echo compiled >>{log};; esac\nexec {real} "$@"\n'
    )
    script.chmod(0o755)
    log.touch()
    monkeypatch.setenv("CXX", str(script))
    return lambda: log.read_text().split()
