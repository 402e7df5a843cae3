"""Cells: the same one twice is bit-equal; a key changes with what can change a number."""

from pathlib import Path

import pytest

SUITE = """
suite: repeat
seeds: 2
experiments:
  - name: digits
    workload: {use: train, task: {use: digits, train_limit: 200, test_limit: 100},
               model: {use: mlp, hidden: [16]}, optimizer: %s, batch_size: 32, epochs: 2}
    metrics: [accuracy, loss, accuracy@train]
    matrix:
      workload.activation: [null, {use: random-gradient, scope: all}]
"""
FAULTY = (Path(__file__).parent.parent / "faults" / "faulty.py").read_text()


def values(bench):
    return [
        (row["label"], row["seed"], row["metric"], row["where"], row["at"], row["value"])
        for row in bench.rows()
        if not row["metric"].startswith("step_time")
    ]


def test_the_same_cells_twice_are_bit_equal_isolated_or_not(bench):
    suite = bench.suite(SUITE % "adam")
    assert bench("run", suite).returncode == 0
    first = values(bench)
    assert len(first) == 2 * 2 * 3 * 3  # methods, seeds, metrics; the value and two epochs
    assert bench("run", suite, "--force").returncode == 0
    assert values(bench) == first
    assert bench("run", suite, "--force", "--here").returncode == 0
    assert values(bench) == first


def test_two_at_a_time_measure_what_two_at_a_time_measured_before(bench):
    suite = bench.suite(SUITE % "sgd")
    done = bench("run", suite, "--jobs", "2")
    assert done.returncode == 0, done.stderr
    first = values(bench)
    assert {row["status"] for row in bench.rows()} == {"ok"}
    assert bench("run", suite, "--jobs", "2", "--force").returncode == 0
    assert values(bench) == first


def test_equal_cells_of_two_experiments_are_measured_once_for_all_their_metrics(bench):
    bench.install("faulty", FAULTY)
    suite = bench.suite(
        "suite: twins\nseeds: 2\nexperiments:\n"
        "- {name: a, workload: faulty, metrics: [error], matrix: {workload.size: {x: 1, y: 1}}}\n"
        "- {name: b, workload: {use: faulty, size: 1}, metrics: [step_time]}\n"
    )
    done = bench("run", suite)
    assert done.returncode == 0, done.stderr
    assert "2 cells, 2 to run" in done.stdout
    assert "one configuration, measured once: x, y" in done.stdout
    rows = {(r["experiment"], r["label"], r["metric"]) for r in bench.rows(part="")}
    assert rows >= {("a", "x", "error"), ("a", "y", "error"), ("b", "b", "step_time")}
    assert "2 already measured, 0 to run" in bench("run", suite).stdout


def test_the_table_shows_the_records_that_the_run_counted(bench):
    module = bench.install("faulty", FAULTY)
    suite = bench.suite("suite: s\nexperiments:\n- {name: e, workload: faulty, metrics: [error]}\n")
    assert bench("run", suite).returncode == 0
    module.write_text(FAULTY.replace('print(f"about', 'raise KeyError(f"about'))
    assert "1 error" in bench("run", suite).stdout
    module.write_text(FAULTY)
    again = bench("run", suite)
    assert again.returncode == 0
    assert "1 already measured, 0 to run" in again.stdout
    assert "1 ok" in again.stdout


def test_a_metric_added_later_runs_the_missing_pass_only_and_keeps_the_rest(bench):
    suite = bench.suite(SUITE % "adam")
    bench("run", suite, "--seeds", "1")
    before = values(bench)
    bench.suite(SUITE.replace("accuracy@train", "accuracy@train, step_time") % "adam")
    done = bench("run", suite, "--seeds", "1")
    assert "2 cells, 2 to run" in done.stdout
    assert values(bench) == before
    assert bench.rows(metric="step_time", part="")
    bench.suite(SUITE.replace("loss, accuracy@train", "loss") % "adam")
    assert "2 cells, 2 already measured, 0 to run" in bench("run", suite, "--seeds", "1").stdout


@pytest.fixture
def measured(bench):
    """Return the bench with one cell measured through a copy of the core and two plugins."""
    import shutil

    import sketchbench

    core = Path(sketchbench.__file__).parent
    shutil.copytree(core, bench.site / "sketchbench", ignore=shutil.ignore_patterns("__pycache__"))
    bench.install("faulty", "import beside\n" + FAULTY)
    (bench.site / "beside.py").write_text("X = 1\n")
    bench.install("unrelated", "Y = 1\n")
    suite = bench.suite(
        "suite: keys\nexperiments:\n- {name: e, workload: faulty, metrics: [error]}\n"
    )
    done = bench("run", suite)
    assert done.returncode == 0, done.stderr
    return bench, suite


def test_an_edit_invalidates_what_it_can_change_and_no_more(measured):
    bench, suite = measured
    for harmless in ("report/terminal.py", "report/tables.py", "cli/plan.py", "statistics.py"):
        _append(bench.site / "sketchbench" / harmless, "EDITED = 1")
    _append(bench.site / "unrelated.py", "EDITED = 1")
    _append(bench.site / "sketchbench" / "linalg" / "draws.py", "# a comment")
    assert "1 done, 0 to run" in bench("plan", suite).stdout
    for file in ("sketchbench/linalg/symmetric.py", "beside.py", "faulty.py"):
        before = (bench.site / file).read_text()
        _append(bench.site / file, "EDITED = 1")
        planned = bench("plan", suite).stdout
        assert "0 done, 1 to run" in planned, file
        assert "code, versions or threads changed" in planned
        (bench.site / file).write_text(before)
    assert "1 done, 0 to run" in bench("plan", suite).stdout


def _append(file: Path, line: str) -> None:
    file.write_text(f"{file.read_text()}\n{line}\n")


def test_a_metric_whose_source_changed_is_measured_again(bench):
    bench.install("faulty", FAULTY)
    score = (
        "from sketchbench import Approximation, Score, hookimpl\n"
        "class Other(Score):\n    'Another score.'\n    name = 'other'\n"
        "    unit, direction, margin, consumes = '1', 'lower', 0.0, Approximation\n"
        "    def __call__(self, outcome): return 1.0\n"
        "@hookimpl\ndef register_metrics(): return [Other]\n"
    )
    bench.install("scores", score)
    suite = bench.suite(
        "suite: keys\nexperiments:\n- {name: e, workload: faulty, metrics: [error, other]}\n"
    )
    bench("run", suite)
    assert "1 done" in bench("plan", suite).stdout
    bench.install("scores", score.replace("1.0", "2.0"))
    bench("run", suite)
    (row,) = bench.rows(metric="other", part="", at="")
    assert float(row["value"]) == 2.0
