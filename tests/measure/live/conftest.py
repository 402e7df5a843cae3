"""Regions to measure, with the CPU allocator's own counters as the truth beside them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from sketchbench import Missing, Watched
from sketchbench.measure import LiveBytes, Memory, cpu_allocator

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    """Small tensors and busy machines: threads would only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def cases():
    """The module of training steps on which meters are compared."""
    path = Path(__file__).parents[2] / "benchmarks" / "meter_cases.py"
    spec = importlib.util.spec_from_file_location("meter_cases", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["meter_cases"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def footprint():
    """Return a function: the live bytes of what `work` does, on `device`."""

    def measured(work, model=None, optimizer=None, inputs=(), device=CPU):
        live = LiveBytes(device, Watched(model, optimizer, inputs))
        with live:
            kept = work()
        del kept
        return live.footprint

    return measured


@pytest.fixture
def usage():
    """Return a function: live bytes and the allocator's peak; skips where there is no compiler."""
    try:
        cpu_allocator.install()
    except Missing as missing:
        pytest.skip(str(missing))

    def measured(work, model=None, optimizer=None, inputs=()):
        memory = Memory(CPU, Watched(model, optimizer, inputs))
        memory.start()
        kept = work()
        found = memory.stop()
        del kept
        return found

    return measured
