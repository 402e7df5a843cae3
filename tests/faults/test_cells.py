"""Cells that end badly: each is a row with its reason, and harms no neighbour."""

from pathlib import Path

import psutil
import pytest

FAULTY = (Path(__file__).parent / "faulty.py").read_text()
SUITE = """
suite: faults
experiments:
  - name: endings
    workload: {use: faulty}
    metrics: [error, step_time]
    matrix:
      workload.how: [%s]
"""
ENDINGS = {
    "raise": ("error", "ValueError: this cell is broken (site/faulty.py:"),
    "segfault": ("crash", "the process ended with SIGSEGV and no answer"),
    "exit": ("crash", "the process ended with exit status 3 and no answer"),
    "sysexit": ("error", "SystemExit: leaving (site/faulty.py:"),
    "odd event": ("error", "TypeError: event 'odd': 'x' is a Tensor; events hold text, numbers"),
    "kill": ("crash", "the process ended with SIGKILL and no answer"),
    "hang": ("timeout", "killed after 3 s"),
    "nan": ("nan", "error is nan"),
    "diverge": ("nan", "training loss is inf at epoch 2"),
    "overflow": ("nan", "optimizer: a gradient isn't finite"),
    "memory": ("oom", "allocate"),
    "python memory": ("oom", "MemoryError"),
    "skip": ("skipped", "toys: no data in nowhere; set SKETCHBENCH_DATA"),
    "silent": ("error", "workload 'faulty' ended without error"),
    "huge answer": ("error", "ValueError: yyyy"),
}


@pytest.fixture
def faulty(bench):
    bench.install("faulty", FAULTY)
    return bench


def test_each_ending_is_a_row_and_its_neighbours_are_unharmed(faulty):
    suite = faulty.suite(SUITE % ", ".join([*ENDINGS, "ok"]))
    done = faulty("run", suite, "--timeout", "3")
    assert done.returncode == 1, done.stderr
    rows = {row["label"]: row for row in faulty.rows()}
    assert set(rows) == {*ENDINGS, "ok"}
    for ending, (status, reason) in ENDINGS.items():
        assert rows[ending]["status"] == status, ending
        line = next(line for line in done.stdout.splitlines() if f" {ending} · " in line)
        assert reason in line.replace("@gram", ""), ending
    assert rows["ok"]["status"] == "ok"
    assert "Traceback" not in done.stderr + done.stdout
    assert not [p for p in psutil.process_iter(["cmdline"]) if "time.sleep(6543)" in str(p.info)]


def test_a_failed_cell_runs_again_and_a_sound_one_does_not(faulty):
    suite = faulty.suite(SUITE % "raise, ok")
    faulty("run", suite)
    again = faulty("run", suite)
    assert "2 cells, 1 already measured, 1 to run" in again.stdout
    assert again.returncode == 1


def test_skipped_cells_do_not_fail_a_run_but_nothing_else_than_skips_does(faulty):
    both = faulty.suite(SUITE % "skip, ok")
    assert faulty("run", both).returncode == 0
    assert faulty("run", both, "--only", "skip").returncode == 1


def test_in_this_process_the_same_answers_come_out(faulty):
    suite = faulty.suite(SUITE % "raise, nan, skip, ok")
    assert faulty("run", suite).returncode == 1
    isolated = [
        (r["label"], r["status"], r["value"]) for r in faulty.rows() if "time" not in r["metric"]
    ]
    here = faulty("run", suite, "--here", "--force")
    assert here.returncode == 1, here.stderr
    assert isolated == [
        (r["label"], r["status"], r["value"]) for r in faulty.rows() if "time" not in r["metric"]
    ]


def test_what_a_failed_cell_printed_is_kept(faulty):
    import sqlite3

    faulty("run", faulty.suite(SUITE % "segfault, raise"))
    logs = [
        row[0]
        for row in sqlite3.connect(faulty.folder / "results/results.sqlite").execute(
            "SELECT log FROM records ORDER BY id"
        )
    ]
    assert "about to end: segfault" in logs[0]
    assert "Segmentation fault" in logs[0]
    assert "ValueError: this cell" in logs[1]
