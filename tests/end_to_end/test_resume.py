"""Runs that are cut off: nothing stays behind, nothing is lost, and the rest is run later."""

import os
import re
import shlex
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import psutil
import pytest

FAULTY = (Path(__file__).parent.parent / "faults" / "faulty.py").read_text()
SUITE = """
suite: resumed
seeds: 3
experiments:
  - name: steps
    workload: {use: faulty, pause: 0.4}
    metrics: [error]
    matrix:
      workload.size: {one: 1, two: 2, three: 3}
    baseline: one
"""


@pytest.fixture
def started(bench):
    """Return the bench with a run of nine slow cells that has stored two of them."""
    bench.install("faulty", FAULTY)
    suite = bench.suite(SUITE)
    process = bench.start("run", suite)
    database = bench.folder / "results" / "results.sqlite"
    deadline = time.monotonic() + 120
    while _stored(database) < 2:
        assert time.monotonic() < deadline, "no record in two minutes"
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    yield bench, suite, process
    if process.poll() is None:
        process.kill()
    process.communicate()


def _stored(database: Path) -> int:
    if not database.exists():
        return 0
    try:
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        return connection.execute("SELECT count(*) FROM records").fetchone()[0]
    except sqlite3.OperationalError:
        return 0


def _family(process) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def _all_gone(family: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(family, timeout=10)
    return not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE]


def _table(text: str) -> list[str]:
    """Return the lines of the comparison, without what depends on the clock."""
    lines = text[text.index("steps\n") :].splitlines()
    return [re.sub(r"\s+", " ", line) for line in lines if not line.startswith("results:")]


def test_a_killed_driver_leaves_no_process_and_the_rest_is_run_later(started, tmp_path_factory):
    bench, suite, process = started
    family = _family(process)
    assert len(family) >= 2, "a fork server and a cell"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert _all_gone(family)
    kept = _stored(bench.folder / "results" / "results.sqlite")
    resumed = bench("run", suite)
    assert resumed.returncode == 0, resumed.stderr
    assert f"9 cells, {kept} already measured, {9 - kept} to run" in resumed.stdout
    undisturbed = bench("run", suite, "--results", "others")
    assert _table(resumed.stdout) == _table(undisturbed.stdout)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_processes_that_a_cell_started_end_with_the_driver(bench, number):
    bench.install("faulty", FAULTY)
    suite = bench.suite(SUITE.replace("pause: 0.4", "how: hang"))
    process = bench.start("run", suite)
    deadline = time.monotonic() + 120
    while not (sleepers := _sleepers()):
        assert time.monotonic() < deadline, process.poll()
        time.sleep(0.05)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert _all_gone(sleepers)


def _sleepers() -> list[psutil.Process]:
    found = psutil.process_iter(["cmdline"])
    return [p for p in found if "time.sleep(6543)" in str(p.info["cmdline"])]


def test_an_interrupt_stores_the_running_cell_and_prints_the_command_that_resumes(started):
    bench, suite, process = started
    family = _family(process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    told, _, command = err.strip().splitlines()[-1].partition("; finish with: ")
    assert told == "interrupted"
    assert command.endswith(f"-m sketchbench run {suite}")
    assert "Traceback" not in out + err
    assert _all_gone(family)
    statuses = [row["status"] for row in bench.rows(part="")]
    assert statuses.count("interrupted") == 1
    assert "not run" in statuses
    variables = os.environ | {"PYTHONPATH": str(bench.site)}
    again = subprocess.run(shlex.split(command), cwd=bench.folder, env=variables)
    assert again.returncode == 0
    assert {row["status"] for row in bench.rows()} == {"ok"}


def test_a_terminated_driver_ends_like_an_interrupted_one(started):
    _, _, process = started
    family = _family(process)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 130
    assert _all_gone(family)


def test_two_drivers_on_one_store_lose_nothing(bench):
    bench.install("faulty", FAULTY)
    suite = bench.suite(SUITE.replace("0.4", "0.1"))
    both = [bench.start("run", suite) for _ in range(2)]
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert len({(row["label"], row["seed"]) for row in bench.rows(status="ok")}) == 9
