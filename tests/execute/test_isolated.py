"""Child processes: forked from a server, or spawned where nothing forks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sketchbench.execute import preload, worker
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
    before = dict(os.environ)
    errors = []
    for served in (True, False):
        with Isolated("cpu", {}, served) as runner:
            found = answer(runner, request_)
        assert (found["status"], found["problems"]) == ("ok", []), found
        errors += [m["value"] for m in found["measurements"] if m["metric"] == "relative_error"]
    forked, spawned = errors
    assert forked == spawned > 0
    assert dict(os.environ) == before  # what tells children apart reaches no other process


def test_what_the_server_loaded_is_no_work_for_a_childs_garbage_collector():
    """Collecting it took 0.2 s, three times in an audit."""
    code = "import gc; from sketchbench.execute import preload; print(gc.get_freeze_count())"
    variables = {preload.DRIVER: str(os.getpid()), preload.SERVED: "yes"}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, env=os.environ | variables, capture_output=True, text=True)
    assert int(done.stdout) > 100_000, done.stderr


def test_children_for_cuda_begin_with_its_variables_and_without_a_context(request_):
    """No GPU is needed: `cuda` says how children start, the request says where they compute."""
    before = dict(os.environ)
    with Isolated("cuda", {}) as runner:
        assert runner._variables["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        found = answer(runner, request_)
    assert (found["status"], found["problems"]) == ("ok", []), found
    assert dict(os.environ) == before


def test_a_fork_after_cuda_was_used_is_named(request_, monkeypatch):
    """What torch says in such a process, in its place: the request isn't begun."""
    monkeypatch.setattr(torch.cuda, "_is_in_bad_fork", lambda: True)
    cell = request_["cell"] | {"config": request_["cell"]["config"] | {"device": "cuda"}}
    found = worker.do(request_ | {"cell": cell}, Registry.load(), lambda news: None)
    assert found["status"] == "error"
    assert found["reason"].startswith("a plugin's import uses CUDA, which no fork can")


def test_what_is_still_running_when_the_runner_closes_is_killed(request_):
    with Isolated("cpu", {}) as runner:
        child = runner.start({"ready": True}, 60.0)
        process = child.process
    assert not process.is_alive()
