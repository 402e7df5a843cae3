"""The suites that come with the project: they expand, and train on the real data where it is."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SKETCHBENCH_DATA", ROOT.parent / "shared" / "data"))
SUITES = sorted((ROOT / "suites").glob("*.yaml"))
# What every test run measures of a suite: the baseline and a few methods, on a piece of the data.
IMAGES = ["--set", "workload.task.train_limit=400", "--set", "workload.task.test_limit=200"]
TEXT = ["--set", "workload.task.train_limit=64", "--set", "workload.task.test_limit=8"]
PIECES = {
    "adaptive_rank": (["*adam*exact", "*adam*tropp error from 2"], IMAGES),
    "char_lm": (["adamw*1e-3*exact", "adamw*1e-3*unbiased k=16"], TEXT),
    "cifar": (["adam*1e-3*128*exact", "adam*1e-3*128*checkpoint"], IMAGES),
    "mnist": (
        [
            *("adam, all*1e-3*exact", "adam, all*1e-3*checkpoint", "adam, all*1e-3*zero gradient"),
            *("adam, all*1e-3*ema-basis r=2", "adam, all*1e-3*tropp r=2"),
        ],
        IMAGES,
    ),
}
needs_data = pytest.mark.skipif(
    not DATA.exists(), reason="needs the real data: set SKETCHBENCH_DATA"
)


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_suite_expands_with_each_of_its_presets(path):
    import yaml

    from sketchbench.registry import Registry
    from sketchbench.suite import Suite

    registry = Registry.load()
    for preset in (None, *(yaml.safe_load(path.read_text()).get("presets") or {})):
        suite = Suite.read(path, registry, preset=preset)
        assert suite.cells
        assert all(experiment.baseline for experiment in suite.experiments)


@needs_data
@pytest.mark.parametrize("name", PIECES)
def test_a_suite_trains_on_real_data_and_compares_with_intervals(bench, name):
    only, limits = PIECES[name]
    suite = ROOT / "suites" / f"{name}.yaml"
    words = ["run", suite, "--preset", "quick", "--seeds", "2", "--set", "workload.epochs=1"]
    words += [*limits, *(word for glob in only for word in ("--only", glob))]
    done = bench(*words, SKETCHBENCH_DATA=str(DATA))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"exact \(baseline\) +2/2 +\d\.\d+ ± \d\.\d+", done.stdout)
    if "checkpoint" in done.stdout:
        assert re.search(r"checkpoint +2/2 .* 0 ± 0 ", done.stdout)
    again = bench(*words, SKETCHBENCH_DATA=str(DATA))
    assert "0 to run" in again.stdout


@needs_data
@pytest.mark.nightly
@pytest.mark.parametrize("name", ["mnist", "cifar"])
def test_the_quick_preset_as_the_readme_runs_it(bench, name):
    suite = ROOT / "suites" / f"{name}.yaml"
    assert f"sketchbench run suites/{name}.yaml --preset quick" in (ROOT / "README.md").read_text()
    process = bench.start("run", suite, "--preset", "quick", SKETCHBENCH_DATA=str(DATA))
    out, err = process.communicate()
    assert process.returncode == 0, out + err
    print(out)
