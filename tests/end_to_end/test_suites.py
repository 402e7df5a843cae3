"""The suites that come with the project: they expand, and train on the real data where it is."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("SKETCHBENCH_DATA", ROOT.parent / "shared" / "data"))
SUITES = sorted((ROOT / "suites").glob("*.yaml"))
TO_PREDICT = {"large"}  # too large to run: no seeds to compare, no control
SMALL = ["--preset", "quick", "--seeds", "2", "--only", "adam*", "--set", "workload.epochs=1"]
LIMITS = ["--set", "workload.task.train_limit=400", "--set", "workload.task.test_limit=200"]
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
        assert all(experiment.baseline for experiment in suite.experiments)
        if path.stem not in TO_PREDICT:
            assert len({cell.seed for cell in suite.cells}) == (3 if preset == "quick" else 5)
            assert all(experiment.control for experiment in suite.experiments)


@needs_data
@pytest.mark.parametrize("name", ["mnist", "cifar"])
def test_a_suite_trains_on_real_data_and_compares_with_intervals(bench, name):
    words = ("run", ROOT / "suites" / f"{name}.yaml", *SMALL, *LIMITS)
    done = bench(*words, SKETCHBENCH_DATA=str(DATA))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"exact \(baseline\) +2/2 +0\.\d+ ± 0\.\d+", done.stdout)
    assert re.search(r"checkpoint +2/2 .* 0 ± 0 ", done.stdout)
    assert "zero gradient (control)" in done.stdout
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
