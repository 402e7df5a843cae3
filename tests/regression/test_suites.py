"""Suites as asv benchmarks: what is followed, by which name, and what a commit can't say."""

import importlib
import math
import shutil
from pathlib import Path

import pytest
import yaml

from sketchbench import regression
from sketchbench.registry import Registry
from sketchbench.regression import following, measuring
from sketchbench.suite import Suite

ROOT = Path(__file__).parent.parent.parent
TRACKED = ROOT / "suites" / "tracked"
SUITE = """
suite: small
seeds: 2
experiments:
  - name: small norms
    workload: {use: distortion, size: 32, vectors: 4, repeats: 2}
    metrics: [relative_error@norms, build_time]
    matrix:
      workload.size: {tiny: 16, small: 32}
      workload.sketch:
        gaussian: {use: gaussian, out_size: 8}
        too large: {use: qk, out_size: 64}
        from tomorrow: {use: sketch-of-tomorrow}
    baseline: gaussian
"""


def cell(made, label):
    (found,) = [each for each in made.params if each.rpartition(" #")[0] == label]
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "ROUNDS", 1)  # that the least of several counts has its own test
    (tmp_path / "small.yaml").write_text(SUITE)
    return tmp_path


@pytest.mark.parametrize("path", sorted(TRACKED.glob("*.yaml")), ids=lambda path: path.stem)
def test_tracked_suites_say_the_same_to_asv_and_to_the_bench(path):
    """Labels, units and directions, read without the bench so that any commit can be measured."""
    registry = Registry.load()
    suite = Suite.read(path, registry)
    written = {each["name"]: each for each in yaml.safe_load(path.read_text())["experiments"]}
    for name, experiment in written.items():
        cells = [cell.label for cell in suite.cells if cell.experiment == name]
        assert sorted(regression.labels(experiment)) == sorted(cells)
        for each in regression.series(experiment):
            metric = registry.lookup("metric", each.metric)
            assert (each.metric in following.ERRORS) == (metric.direction == "higher")
            if not each.relative and each.metric not in following.ERRORS:
                assert each.unit == metric.unit, each


def test_the_benchmark_file_offers_every_experiment(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    tracked = importlib.import_module("benchmarks.tracked")
    offered = {name for name, value in vars(tracked).items() if isinstance(value, type)}
    assert {"ActivationSteps", "CovarianceStreams", "GradientProducts", "OptimizerSteps"} <= offered
    methods = [name for name in vars(tracked.OptimizerSteps) if name.startswith("track_")]
    assert {"track_state_bytes", "track_step_time_ratio", "track_error"} <= set(methods)


def test_numbers_failures_and_what_a_version_does_not_know(folder):
    (made,) = regression.benchmarks(folder, "x").values()
    subject = made()
    cache = subject.setup_cache()
    error = subject.track_relative_error(cache, cell(made, "small · gaussian"))
    assert 0 < error < 1
    assert subject.track_build_time_cpu(cache, cell(made, "tiny · gaussian")) > 0
    assert math.isnan(subject.track_relative_error(cache, cell(made, "small · from tomorrow")))
    again = regression.measured(folder)
    assert again["small norms"]["small · gaussian"]["relative_error/"] == error


def test_a_failed_cell_fails_its_own_benchmarks_alone(folder, monkeypatch):
    broken = SUITE.replace("tiny: 16, small: 32", "tiny: 16, broken: 32").replace(
        "{use: qk, out_size: 64}", "{use: layer-selection, layers: nothing}"
    )
    (folder / "small.yaml").write_text(broken)
    (made,) = regression.benchmarks(folder, "x").values()
    cache = made().setup_cache()
    assert made().track_relative_error(cache, cell(made, "tiny · gaussian")) > 0
    with pytest.raises(RuntimeError, match="small norms, tiny · too large: "):
        made().track_relative_error(cache, cell(made, "tiny · too large"))


def test_a_suite_that_this_version_refuses_fails_with_its_words_and_no_other(folder):
    refused = SUITE.replace("repeats: 2", "repeated: 2").replace("small norms", "other norms")
    (folder / "other.yaml").write_text(refused)
    found = regression.benchmarks(folder, "x")
    cache = found["SmallNorms"]().setup_cache()
    small, other = found["SmallNorms"], found["OtherNorms"]
    assert small().track_relative_error(cache, cell(small, "tiny · gaussian")) > 0
    with pytest.raises(RuntimeError, match="has no parameter 'repeated'"):
        other().track_relative_error(cache, cell(other, "tiny · gaussian"))


def test_of_times_the_least_counts_and_of_failures_any():
    runs = [{"a": {"x": {"t": 3.0, "u": 1.0}, "y": {"t": 1.0}}}, {"a": {"x": {"t": 2.0}}}]
    assert measuring._joined(runs) == {"a": {"x": {"t": 2.0, "u": 1.0}, "y": {"t": 1.0}}}
    for order in (runs, runs[::-1]):
        failed = measuring._joined([*order, {"a": {"x": {"failed": "no"}}}, *order])
        assert failed["a"]["x"] == {"failed": "no"}


def test_times_are_told_as_multiples_of_the_groups_baseline(folder):
    (folder / "small.yaml").write_text(SUITE.replace("build_time]", "step_time]"))
    (made,) = regression.benchmarks(folder, "x").values()
    cells = {"tiny · gaussian": 2.0, "small · gaussian": 4.0, "small · too large": 6.0}
    cache = {"small norms": {label: {"step_time/": value} for label, value in cells.items()}}
    track = made().track_step_time_ratio
    assert track(cache, cell(made, "small · too large")) == 1.5
    assert track(cache, cell(made, "tiny · gaussian")) == 1
    del cache["small norms"]["small · gaussian"]
    assert math.isnan(track(cache, cell(made, "small · too large")))


@pytest.mark.parametrize(
    ("before", "after", "broken"),
    [
        ("suite: small", "# a comment\ntitle: Other words\nsuite: small", set()),
        ("repeats: 2", "repeats: 3", {"small", "tiny"}),
        ("seeds: 2", "seeds: 3", {"small", "tiny"}),
        ("tiny: 16", "tiny: 8", {"tiny"}),
        ("tiny: 16", "smaller: 2, tiny: 16", set()),
        ("{tiny: 16, small: 32}", "{small: 32, tiny: 16}", set()),
    ],
)
def test_history_breaks_exactly_where_what_is_measured_changes(folder, before, after, broken):
    def histories():
        (made,) = regression.benchmarks(folder, "x").values()
        version = made.track_relative_error.version
        assert version != made.track_build_time_cpu.version
        return {(version, each) for each in made.params if "gaussian" in each}

    first = histories()
    text = SUITE.replace(before, after)
    assert text != SUITE
    (folder / "small.yaml").write_text(text)
    lost = first - histories()
    assert {label.split()[0] for _, label in lost} == broken


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            "build_time]",
            "{use: build_time}]",
            "small norms: metrics are followed by name; {'use': 'build_time'}",
        ),
        (
            "build_time]",
            "relative_error@inner]",
            "small norms: 'relative_error' is followed at one place alone",
        ),
        (
            "{tiny: 16, small: 32}",
            "[16, 32]",
            "small.yaml: 'small norms', matrix: expected a mapping of paths to labelled values",
        ),
        ("experiments:", "experiments: &all", None),
    ],
)
def test_what_can_not_be_followed_is_named(folder, before, after, said):
    (folder / "small.yaml").write_text(SUITE.replace(before, after))
    if said is None:  # the same experiment in two suites
        shutil.copy(folder / "small.yaml", folder / "twice.yaml")
        said = "twice.yaml: two experiments are called 'small norms'"
    with pytest.raises(ValueError, match=".*") as caught:
        regression.benchmarks(folder, "x")
    assert str(caught.value).startswith(said)
