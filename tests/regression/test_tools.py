"""The scripts beside asv's configuration: wheels, installs, pages without a network, noise."""

import importlib.util
import json
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def tool(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def test_the_published_page_loads_nothing_from_elsewhere():
    offline = tool("asv_offline")
    asv = pytest.importorskip("asv", reason="asv isn't installed: `pip install -e .[dev]`")
    page = (Path(asv.__file__).parent / "www" / "index.html").read_text()
    found, needed = offline.localised(page)
    assert "https://code.jquery.com" in page
    assert not offline.TAG.search(found)
    assert "integrity" not in found
    assert set(needed) == set(offline.FILES)
    assert offline.localised(found) == (found, [])


def test_a_script_of_another_asv_is_named(tmp_path):
    offline = tool("asv_offline")
    page = '<script src="https://x.org/new.min.js"></script>'
    with pytest.raises(offline.Trouble, match="loads https://x.org/new.min.js, and no package"):
        offline.localised(page)
    with pytest.raises(offline.Trouble, match="index.html doesn't exist"):
        offline.main(tmp_path)


def test_without_a_shared_environment_torch_is_of_the_release_that_is_pinned(tmp_path):
    sys.modules.pop("asv_build", None)
    tool("asv_build")
    install = tool("asv_install")
    assert install.pinned() == ["torch==2.13.0"]
    requirements = tmp_path / "requirements.txt"
    assert install.pinned(requirements) == []
    requirements.write_text("# numpy==1\n-e .[dev]\nscipy>=1\ntorch==2.6.0\n")
    assert install.pinned(requirements) == ["torch==2.6.0"]


@pytest.fixture
def times():
    pytest.importorskip("asv", reason="asv isn't installed: `pip install -e .[dev]`")
    return tool("asv_times")


@pytest.fixture
def noise(times):
    return tool("asv_noise")


def test_a_steady_series_gives_no_alarm_and_is_found_from_its_threshold_on(noise):
    values = [1 + 0.01 * (i % 3) for i in range(10)]
    found = dict(
        zip(noise.FACTORS, noise.curve(values, 0.15, noise.risen), strict=True),
    )
    assert found[1.0] == found[1.05] == found[1.1] == 0
    assert found[1.2] == found[1.3] == found[3.0] == 1
    assert noise.curve(values, 0.15, noise.stepped)[-1] == 1


def test_a_series_all_noise_gives_alarms(noise):
    rng = random.Random(1)
    values = [rng.lognormvariate(0, 0.5) for _ in range(10)]
    assert noise.curve(values, 0.15, noise.risen)[0] > 0.2


@pytest.mark.parametrize(
    ("values", "at"),
    [
        ([1.0] * 4 + [1.2] * 4, 4),
        ([1.0] * 12 + [1.2] * 5, 12),
        ([1.0] * 4 + [1.1] * 4, None),  # below the threshold
        ([1.0] * 6 + [1.2] * 2, None),  # too late to tell
        ([1.0] * 5 + [1.2] * 4 + [1.0] * 5, None),  # it came down again
        ([1.0, 1.0, 9.0, 1.0, 1.0, 1.0, 9.0, 1.0, 1.0, 1.0], None),  # two bad days
        ([1.2] * 5 + [1.0] * 5, None),  # better
        ([1.0] * 7, None),
        ([], None),
    ],
)
def test_a_time_rose_where_medians_did_and_stayed(times, values, at):
    assert times.risen(values, 0.15) == at


@pytest.mark.parametrize(("last", "status"), [(7.0, 0), (8.0, 1)])
def test_exact_numbers_that_differ_are_named(noise, tmp_path, monkeypatch, capsys, last, status):
    commits = "abcdefgh"
    exact = dict.fromkeys(commits, 7.0) | {"h": last}
    timed = {("x.track_step_time_cpu", "qk"): dict.fromkeys(commits, 1.0)}
    monkeypatch.setattr(noise, "series", lambda _: {("x.track_bytes", "qk"): exact, **timed})
    conf = tmp_path / "asv.conf.json"
    conf.write_text(json.dumps({"regressions_thresholds": {".*_time.*": 0.15}}))
    assert noise.main(tmp_path, conf) == status
    printed = capsys.readouterr().out
    assert ("x.track_bytes (qk): 7 to 8" in printed) == bool(status)
    assert "8 commits alike; 1 exact series, 1 timed" in printed


def test_thresholds_are_the_largest_that_match_as_asv_takes_them(times):
    thresholds = json.loads((ROOT / "asv.conf.json").read_text())["regressions_thresholds"]
    for name, threshold in [
        ("tracked.A.track_step_time_cpu", 0.15),
        ("tracked.A.track_step_time_ratio", 0.15),
        ("tracked.A.track_apply_time_cpu", 0.3),
        ("harness.Cells.track_cell_time", 0.3),
        ("harness.Records.track_file_bytes", 0.001),
        ("tracked.A.track_error", 0.001),
    ]:
        assert times.threshold_of(name, thresholds) == threshold
    assert times.threshold_of("x", {}) == 0.05


def recorded(folder, commits, numbers):
    """Write results as asv does: of each commit, the value of a benchmark's two cells."""
    from asv.results import Results

    (folder / "m").mkdir(parents=True)
    (folder / "m" / "machine.json").write_text(json.dumps({"machine": "m", "version": 1}))
    for place, (commit, values) in enumerate(zip(commits, numbers, strict=True)):
        made = Results({"machine": "m"}, {}, commit, place, "3.11", "env", {})
        name = "tracked.A.track_step_time_cpu"
        made._results[name] = values
        made._benchmark_params[name] = [["'a #1'", "'b #2'"]]
        made._benchmark_version[name] = "1"
        for each in (made._stats, made._samples):
            each[name] = None
        made.save(str(folder))


def test_results_are_read_as_asv_wrote_them(noise, times, tmp_path):
    commits = [str(number) * 40 for number in range(4)]
    recorded(tmp_path, commits, [[1.0, float("nan") if n == 2 else 2.0] for n in range(4)])
    found = times.series(tmp_path)
    assert found["tracked.A.track_step_time_cpu", "a #1"] == dict.fromkeys(commits, 1.0)
    assert set(found["tracked.A.track_step_time_cpu", "b #2"]) == {*commits} - {commits[2]}
    with pytest.raises(SystemExit, match="has 4 commits; at least 8 are needed"):
        noise.main(tmp_path, ROOT / "asv.conf.json")


def test_a_time_that_rose_is_told_with_its_commit(times, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x"]
    subprocess.run(["git", "init", "-q"], check=True)
    for number in range(8):
        subprocess.run([*git, "commit", "-qm", str(number), "--allow-empty"], check=True)
    words = ["git", "rev-list", "--reverse", "HEAD"]
    commits = subprocess.run(words, capture_output=True, text=True).stdout.split()
    shuffled = sorted(range(8), key=commits.__getitem__)  # not in the order of the commits
    numbers = [[1.0, 1.0 if n < 4 else 1.5] for n in shuffled]
    recorded(tmp_path / "results", [commits[n] for n in shuffled], numbers)
    times.main(tmp_path / "results", ROOT / "asv.conf.json")
    assert capsys.readouterr().out.splitlines() == [
        "times that rose: 1 of 2 that 8 commits or more have",
        f"  {commits[4][:8]}  1.50 times  tracked.A.track_step_time_cpu (b #2)",
    ]


def blocks(language):
    page = (ROOT / "docs" / "regressions.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_the_commands_of_the_page_on_regressions_are_known():
    lines = [line.partition("#")[0] for text in blocks("sh") for line in text.splitlines()]
    for words in map(shlex.split, lines):
        if words[0] == "make":
            planned = subprocess.run([words[0], "-n", *words[1:]], cwd=ROOT, capture_output=True)
            assert planned.returncode == 0, words
        else:
            assert words[:2] in (["asv", "machine"], ["asv", "run"])


def test_the_code_of_the_page_on_regressions_makes_benchmarks(monkeypatch):
    monkeypatch.chdir(ROOT)
    (code,) = blocks("python")
    names = {"__name__": "x"}
    exec(code, names)
    assert "track_step_flops" in vars(names["GradientProducts"])


def test_a_job_of_pull_requests_is_the_gate():
    done = subprocess.run(["bash", "-n", ROOT / ".ci" / "regressions"], capture_output=True)
    assert done.returncode == 0
    assert "make asv-check" in (ROOT / ".ci" / "regressions").read_text()
    planned = subprocess.run(
        ["make", "-n", "asv-check", "BASE=x"], cwd=ROOT, capture_output=True, text=True
    )
    (gate,) = [line for line in planned.stdout.splitlines() if " continuous " in line]
    pattern = re.search(r"--bench '([^']+)'", gate)[1]
    assert "SKETCHBENCH_ASV_TIMES=no" in gate
    assert gate.endswith(" x HEAD")
    for name, exact in [
        ("tracked.A.track_step_time_cpu", False),
        ("tracked.A.track_step_time_ratio", False),
        ("harness.Cells.track_cell_time", False),
        ("tracked.A.track_step_flops", True),
        ("kernels.Kronecker.track_relative_error", True),
        ("harness.Regions.track_region_calls", True),
    ]:
        assert bool(re.search(pattern, name)) is exact, name
