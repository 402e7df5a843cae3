import csv
import io
import json

import pytest
from click.testing import CliRunner

from sketchbench.cli import export, report
from sketchbench.recipe import UnknownName


class Empty:
    """A registry in which nothing is registered."""

    def lookup(self, kind, name):
        raise UnknownName(f"no {kind} is called '{name}'")


@pytest.fixture
def call():
    def run(command, *words, **environment):
        return CliRunner().invoke(command, [str(word) for word in words], env=environment)

    return run


@pytest.fixture
def filled(bench, each, tmp_path):
    bench.fill({"a": each("accuracy", 0.5)})
    (tmp_path / "toy.yaml").write_text("title: A toy\nsuite: toy\nmatrix: !!nonsense {}\n")
    return tmp_path


@pytest.mark.parametrize("name", ["", "results.sqlite"])
def test_report_shows_all_of_a_results_folder_or_file(call, filled, name):
    result = call(report.command, filled / name)
    assert result.exit_code == 0
    assert result.stdout.startswith("toy: A toy\n1 ok\n")


def test_report_shows_the_results_of_a_suite(call, filled):
    for result in (
        call(report.command, filled / "toy.yaml", "--results", filled),
        call(report.command, filled / "toy.yaml", SKETCHBENCH_RESULTS=str(filled)),
    ):
        assert result.exit_code == 0
        assert "0.5000" in result.stdout


def test_report_of_a_suite_without_results_names_those_known(call, filled):
    (filled / "other.yaml").write_text("suite: other\n")
    result = call(report.command, filled / "other.yaml", "--results", filled)
    assert result.exit_code == 2
    assert result.stderr == (
        f"no results for suite 'other' in {filled / 'results.sqlite'}; known: toy\n"
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("suite: [a", ":1:10: expected ',' or ']', but got '<stream end>'; not YAML"),
        ("title: x", "no 'suite:' key"),
        ("- suite", "no 'suite:' key"),
        ("suite: {a: b}", "no 'suite:' key"),
        ("[" * 1500, "suite.yaml"),
        ("", "no 'suite:' key"),
    ],
)
def test_report_of_what_is_no_suite_says_so_in_one_line(call, filled, text, told):
    (filled / "suite.yaml").write_text(text)
    result = call(report.command, filled / "suite.yaml", "--results", filled)
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stderr.count("\n") == 1


def test_report_of_bytes_says_so_in_one_line(call, filled):
    (filled / "suite.yaml").write_bytes(b"\xff\xfe\x00\x81")
    result = call(report.command, filled / "suite.yaml", "--results", filled)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)


def test_a_missing_or_broken_results_file_is_one_line(call, tmp_path):
    (tmp_path / "broken.sqlite").write_text("nothing of the kind " * 100)
    for command, rest in ((report.command, []), (export.command, ["--format", "csv"])):
        for path in (tmp_path, tmp_path / "broken.sqlite", tmp_path / "none"):
            result = call(command, path, *rest)
            assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
            assert not result.stdout


def test_a_derived_metric_that_nobody_registered_is_a_note(
    call, bench, each, tmp_path, monkeypatch
):
    from sketchbench import registry

    monkeypatch.setattr(registry.Registry, "load", classmethod(lambda cls: Empty()))
    bench.fill({"a": each("accuracy", 0.5)}, ["accuracy", "skill"])
    result = call(report.command, tmp_path)
    assert result.exit_code == 0
    assert "skill: no installed plugin has this metric" in result.stdout
    assert call(export.command, tmp_path, "--format", "csv").stdout.count("\n") == 2


def test_no_plugin_is_loaded_without_derived_metrics(call, filled, monkeypatch):
    from sketchbench import registry

    monkeypatch.setattr(registry.Registry, "load", lambda: pytest.fail("loaded"))
    assert call(report.command, filled).exit_code == 0


def test_a_registered_derived_metric_is_computed(call, bench, tmp_path, monkeypatch):
    from sketchbench import Derived, registry

    class Twice(Derived):
        """Twice the accuracy."""

        name, unit, direction, margin = "skill", "fraction", "higher", 0.01

        @property
        def needs(self):
            return ("accuracy",)

        def derive(self, cell, baseline=None, control=None):
            return 2 * cell.value("accuracy")

    class One:
        def lookup(self, kind, name):
            return Twice

    monkeypatch.setattr(registry.Registry, "load", classmethod(lambda cls: One()))
    bench.fill({"a": [{"accuracy": 0.3}]}, ["skill"])
    assert "0.6000" in call(report.command, tmp_path).stdout


def test_export_writes_to_standard_output(call, filled):
    result = call(export.command, filled, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert (row["label"], row["value"]) == ("a", "0.5")
    result = call(export.command, filled, "--format", "jsonl")
    assert json.loads(result.stdout)["value"] == 0.5


def test_export_writes_a_file(call, filled):
    path = filled / "out.jsonl"
    result = call(export.command, filled, "--format", "jsonl", "--output", path)
    assert (result.exit_code, result.output) == (0, "")
    assert json.loads(path.read_text())["value"] == 0.5


def test_export_to_a_missing_folder_is_one_line(call, filled):
    result = call(export.command, filled, "--format", "csv", "--output", filled / "no" / "x.csv")
    assert result.exit_code == 2
    assert result.stderr == f"{filled / 'no'}: no such folder\n"


@pytest.mark.parametrize("module", ["report", "export"])
def test_commands_import_click_alone(module):
    import subprocess
    import sys

    code = (
        f"import sys, sketchbench.cli.{module};"
        "print({'torch', 'rich', 'pydantic', 'yaml', 'sqlite3'} & sys.modules.keys())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "set()\n", result.stderr
