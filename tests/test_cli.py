"""Wrong requests: one line a mistake on standard error, exit status 2, nothing written."""

import sqlite3

import pytest

from sketchbench.cli import main

SUITE = """
suite: small
experiments:
  - name: e
    workload: {use: distortion, sketch: {use: gaussian, out_size: 8}, size: 32, vectors: 4,
               repeats: 2}
    metrics: [relative_error@norms]
"""


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("rum", "sketchbench: no command is called 'rum'; did you mean 'run'?"),
        ("run", "sketchbench run: Missing argument 'SUITE'."),
        ("run suite.yaml --seeds 0", "sketchbench run: Invalid value for '--seeds'"),
        ("run suite.yaml --sed 1", "sketchbench run: No such option '--sed'"),
        ("run missing.yaml", "missing.yaml: can't be read: No such file or directory"),
        ("run .", ".: can't be read: Is a directory"),
        ("run suite.yaml --device tpu", "--device tpu: no such device; (known: auto, cpu, cuda)"),
        ("run suite.yaml --preset fast", "--preset fast: small has no such preset"),
        ("run suite.yaml --set workload.sizes=3", "did you mean 'size'?"),
        ("run suite.yaml --set workload.size=-3", "--set workload.size=-3:1:15: workload.size:"),
        ("run suite.yaml --only nope", "--only nope: no label matches"),
        ("run suite.yaml --here --jobs 2", "--here: one cell at a time and no timeout"),
        ("run suite.yaml --results suite.yaml", "suite.yaml/results.sqlite: "),
        ("plan suite.yaml --results broken", "broken/results.sqlite: damaged"),
        ("run suite.yaml --results broken", "broken/results.sqlite: damaged"),
        ("report nowhere", "nowhere: No such file or directory"),
        ("report suite.yaml", "results/results.sqlite: no results there"),
        ("export results --format csv", "results/results.sqlite: no results there"),
        ("export results --format xls", "'xls' is not one of 'csv', 'jsonl'"),
        ("components optimizr", "components optimizr: no such kind; did you mean 'optimizer'?"),
        ("components optimizer/adm", "did you mean 'adam'?"),
    ],
)
def test_a_wrong_request_is_one_line_and_status_2(words, text, tmp_path, monkeypatch, capfd):
    """In this process, to spare each case the import of torch."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite.yaml").write_text(SUITE)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "results.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    out, err = capfd.readouterr()
    assert ended.value.code == 2
    assert text in err
    assert err.count("\n") == 1
    assert out == ""
    assert not (tmp_path / "results").exists()


def test_cuda_where_there_is_none_is_refused_not_replaced(bench):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    done = bench("run", bench.suite(SUITE), "--device", "cuda")
    assert done.returncode == 2
    assert done.stderr.startswith("--device cuda: torch ")
    assert done.stderr.count("\n") == 1


def test_all_mistakes_of_a_suite_are_told_at_once_with_line_and_column(bench):
    suite = bench.suite(
        "suite: bad\nexperiments:\n- name: e\n"
        "  workload: {use: train, task: digit, model: mlp, optimizer: {use: adam, lrr: 1}}\n"
        "  metrics: [acuracy]\n"
        "  baseline: exact\n"
    )
    done = bench("run", suite)
    assert done.returncode == 2
    assert [line.split(": ", 1)[0].rpartition("/")[2] for line in done.stderr.splitlines()] == [
        "suite.yaml:4:32",
        "suite.yaml:4:74",
        "suite.yaml:5:13",
        "suite.yaml:6:13",
    ]


def test_a_newer_results_file_is_refused_and_left_alone(bench):
    suite = bench.suite(SUITE)
    assert bench("run", suite).returncode == 0
    database = sqlite3.connect(bench.folder / "results" / "results.sqlite")
    database.execute("PRAGMA user_version = 99")
    database.close()
    for words in (["run", suite], ["report", suite], ["export", "results", "--format", "csv"]):
        done = bench(*words)
        assert done.returncode == 2
        assert "written with schema 99" in done.stderr


def test_a_disk_that_fills_up_keeps_what_is_stored_and_says_so(bench):
    """A file-size limit on the driver stands in for a full disk: SQLite sees a failed write."""
    import subprocess
    import sys

    suite = bench.suite(SUITE.replace("suite: small", "suite: small\nseeds: 60"))
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "from sketchbench.cli import main\n"
        f"main(['run', {str(suite)!r}])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=bench.folder, capture_output=True, text=True
    )
    assert done.returncode == 2, done.stderr
    assert "results/results.sqlite: " in done.stderr
    assert "Traceback" not in done.stderr
    kept = len(bench.rows(status="ok", part="", at=""))
    assert 0 < kept < 60
    again = bench("run", suite)
    assert again.returncode == 0, again.stderr
    assert f"60 cells, {kept} already measured" in again.stdout


def test_the_last_line_of_a_run_says_where_results_are(bench):
    done = bench("run", bench.suite(SUITE))
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("results: results/results.sqlite")


def test_components_describe_parameters_defaults_and_units(bench):
    text = bench("components", "metric/step_time").stdout
    assert "unit: s" in text
    text = bench("components", "workload/train").stdout
    assert "epochs: int = 1  (≥ 1)  Passes over the training split." in text
    assert "activation: activation_sketch | null = null" in text
    listed = bench("components", "task").stdout
    assert listed.splitlines()[0] == "task"
    assert "  digits" in listed
