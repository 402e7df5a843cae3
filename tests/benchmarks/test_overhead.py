"""What the bench itself costs: a cell, a region, a plan, a report, `--help`. Figures, no verdicts.

CPU seconds stand in `extra_info` (`--benchmark-json` keeps them); pytest-benchmark's own columns
are wall time.
"""

import multiprocessing.forkserver
import resource
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from sketchbench.builtin import StepTime
from sketchbench.execute import schedule, worker
from sketchbench.execute.isolated import Isolated
from sketchbench.execute.keys import Keys
from sketchbench.registry import Registry
from sketchbench.run import Run, Wanted
from sketchbench.store import Store
from sketchbench.suite import Suite

ONE_STEP = """
suite: overhead
seeds: 40
experiments:
  - name: one step
    workload: {use: train, task: {use: digits, train_limit: 100, test_limit: 10},
               model: {use: mlp, hidden: [16]}, optimizer: adam, batch_size: 100}
    metrics: [accuracy, step_time]
"""
MANY = """
suite: many
seeds: 5
experiments:
  - name: widths and rates
    workload: {{use: train, task: digits, model: mlp, optimizer: adam}}
    metrics: [accuracy, loss, step_time]
    matrix:
      workload.optimizer.lr: [{rates}]
      workload.batch_size: [{sizes}]
"""


class _Quiet:
    def __getattr__(self, name):
        return lambda *_: None


def test_own_cost_of_a_cell(benchmark, tmp_path):
    """CPU of driver and child per cell, beyond the same work done warm in one process."""
    registry = Registry.load()
    (tmp_path / "suite.yaml").write_text(ONE_STEP)
    suite = Suite.read(tmp_path / "suite.yaml", registry)
    keys = Keys(2)
    with Store.open(tmp_path, create=True) as store, Isolated("cpu", {}) as runner:
        session = store.begin_session("now", "here", {})
        work = schedule.Schedule(runner, store, session, keys, _Quiet(), registry.stored)
        jobs = schedule.plan(suite, {}, keys)
        work.run(jobs[:2])
        server = psutil.Process(multiprocessing.forkserver._forkserver._forkserver_pid)

        def spent():
            times = server.cpu_times()
            of_server = times.user + times.system + times.children_user + times.children_system
            return time.process_time() + of_server

        before = spent()
        benchmark.pedantic(work.run, args=(jobs[2:],), rounds=1)
        whole = (spent() - before) / len(jobs[2:])
    request = {"cell": jobs[0].cell.request(), "stage": "result", "threads": 2}
    worker.do(request, registry, lambda news: None)
    before = time.process_time()
    for _ in range(10):
        worker.do(request, registry, lambda news: None)
    its_work = (time.process_time() - before) / 10
    benchmark.extra_info |= {
        "cpu_ms_per_cell": 1e3 * whole,
        "cpu_ms_of_its_work": 1e3 * its_work,
        "own_cpu_ms_per_cell": 1e3 * (whole - its_work),
    }


def test_a_region_with_a_time_probe(benchmark):
    run = Run(torch.device("cpu"), 0, [Wanted(StepTime(), "step")])

    def region():
        with run.region("step"):
            pass

    benchmark(region)


def _many(tmp_path: Path, points: int) -> Path:
    rates = ", ".join(f"{1e-4 * (1 + i):.4f}" for i in range(points // 20))
    path = tmp_path / "suite.yaml"
    path.write_text(MANY.format(rates=rates, sizes=", ".join(map(str, range(1, 21)))))
    return path


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Return a suite of 10,000 cells and a store with a record of each."""
    folder = tmp_path_factory.mktemp("many")
    path = _many(folder, 2000)
    registry, keys = Registry.load(), Keys(2)
    suite = Suite.read(path, registry)
    assert len(suite.cells) == 10_000
    from sketchbench.records import Measurement, Placement, Record

    with Store.open(folder / "results", create=True) as store:
        session = store.begin_session("now", "here", {})
        placed = [
            Placement(c.experiment, dict(c.axes), c.seed, c.id, keys.of(c)) for c in suite.cells
        ]
        store.place(suite.name, suite.selection, session, suite.outline(), placed, whole=True)
        store._db.execute("PRAGMA synchronous = OFF")  # the fixture's speed, not what is measured
        for i, cell in enumerate(suite.cells):
            measured = [
                Measurement.of(
                    w.metric,
                    w.where,
                    0.9 + i * 1e-6,
                    samples=[0.1] * 30,
                    source=keys.source(w.metric),
                )
                for w in cell.metrics
            ]
            store.add(
                Record(
                    keys.of(cell),
                    cell.id,
                    "ok",
                    "",
                    "now",
                    1.0,
                    cell.config(),
                    measured,
                    session=session,
                )
            )
    return path


def _cpu(*words: str | Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *map(str, words)], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _command(benchmark, *words):
    spent = []
    benchmark.pedantic(lambda: spent.append(_cpu(*words)), rounds=3)
    benchmark.extra_info["cpu_s"] = sorted(spent)[1]
    benchmark.extra_info["cpu_s_of_importing_torch"] = sorted(
        _cpu("-c", "import torch") for _ in range(3)
    )[1]


def test_plan_of_ten_thousand_cells(benchmark, many):
    _command(benchmark, "-m", "sketchbench", "plan", many, "--results", many.parent / "results")


def test_report_of_ten_thousand_cells(benchmark, many):
    _command(benchmark, "-m", "sketchbench", "report", many.parent / "results")


def test_help(benchmark):
    _command(benchmark, "-m", "sketchbench", "--help")
