"""Child processes: forked from a server on the CPU, spawned as they are for CUDA."""

import os
from pathlib import Path

import pytest

from sketchbench.execute.isolated import Isolated
from sketchbench.registry import Registry
from sketchbench.suite import Suite

SUITE = """
suite: small
experiments:
  - name: e
    workload: {use: distortion, sketch: {use: gaussian, out_size: 8}, size: 32, vectors: 4,
               repeats: 2}
    metrics: [relative_error@norms, build_time]
"""


@pytest.fixture(scope="module")
def request_(tmp_path_factory):
    path: Path = tmp_path_factory.mktemp("suite") / "suite.yaml"
    path.write_text(SUITE)
    cell = Suite.read(path, Registry.load()).cells[0]
    return {"cell": cell.request(), "stage": "result", "threads": 1}


def answer(runner, request, timeout=120.0):
    child = runner.start(request, timeout)
    while True:
        for ended, found in runner.wait(1.0):
            if found is not None:
                assert ended is child
                return found


def test_forked_and_spawned_children_measure_the_same(request_):
    """No GPU is needed: `cuda` says how children start, the request says where they compute."""
    before = dict(os.environ)
    errors = []
    for kind in ("cpu", "cuda"):
        with Isolated(kind, {}) as runner:
            found = answer(runner, request_)
        assert (found["status"], found["problems"]) == ("ok", []), found
        errors += [m["value"] for m in found["measurements"] if m["metric"] == "relative_error"]
    forked, spawned = errors
    assert forked == spawned > 0
    assert dict(os.environ) == before  # what tells children apart reaches no other process


def test_what_is_still_running_when_the_runner_closes_is_killed(request_):
    with Isolated("cpu", {}) as runner:
        child = runner.start({"ready": True}, 60.0)
        process = child.process
    assert not process.is_alive()
