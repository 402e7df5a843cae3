import csv
import io
import json
import math

import pytest

from sketchbench import Missing
from sketchbench.report import export, plans


class Workspace:
    """A derived metric that hands on what it gets where it needs a missing measurement."""

    scope = "cell"
    needs = ("requested_bytes@step", "peak_bytes")

    def __init__(self, answer=None):
        self.answer = answer

    def derive(self, cell, baseline=None, control=None):
        requested, peak = cell.value("requested_bytes"), cell.value("peak_bytes")
        if math.isnan(requested):
            return self.answer
        return requested - peak


class Raising(Workspace):
    def derive(self, cell, baseline=None, control=None):
        raise Missing(self.answer)


class Gain:
    scope = "group"
    needs = ("requested_bytes",)

    def derive(self, cell, baseline=None, control=None):
        return cell.value("requested_bytes") - baseline.value("requested_bytes")


@pytest.fixture
def lost(bench):
    def missing(why, metric="requested_bytes"):
        return bench.measured(metric, math.nan, why=why)

    return missing


def test_a_missing_value_is_a_dash_and_its_reason_a_note(bench, lost):
    cells = [{"requested_bytes": value} for value in (lost("no compiler: no c++"), 2048.0)]
    bench.fill({"a": cells[:1] * 2, "b": cells, "c": cells[1:]}, ["requested_bytes"])
    table = bench.table()
    assert [(row.entries[0].mean.n, row.ok) for row in table.rows] == [(0, 2), (1, 2), (1, 1)]
    note = "requested_bytes: missing for a (2 of 2 seeds), b (1 of 2 seeds): no compiler: no c++"
    assert table.notes == [note]
    lines = bench.text().splitlines()
    assert lines[5:9] == [
        "a       2/2                        –",
        "b       2/2                  2 (1/2)",
        "c       1/1                        2",
        f"  {note}",
    ]


def test_a_score_that_diverged_is_not_missing(bench, lost):
    cells = [{"requested_bytes": math.nan}, {"requested_bytes": lost("no compiler")}]
    bench.fill({"a": cells}, ["requested_bytes"])
    assert bench.table().notes == [
        "requested_bytes: it is nan for a (1 of 2 seeds)",
        "requested_bytes: missing for a (1 of 2 seeds): no compiler",
    ]


def test_a_reason_that_all_methods_and_several_metrics_share_is_told_once(bench, lost):
    cell = {"requested_bytes": lost("no compiler"), "peak_bytes": lost("no compiler", "peak_bytes")}
    bench.fill({name: [cell] * 2 for name in "abc"}, list(cell))
    note = "requested_bytes, peak_bytes: missing for every method: no compiler"
    assert bench.table().notes == [note]
    assert "requested_bytes [" not in bench.text()


def test_every_method_means_those_that_have_a_sound_cell(bench, cell, lost):
    lacking = {"requested_bytes": lost("no compiler")}
    methods = {name: [lacking] for name in "abc"} | {"d": [cell(status="oom")]}
    bench.fill(methods, ["requested_bytes"])
    assert bench.table().notes[1:] == ["requested_bytes: missing for every method: no compiler"]


def test_a_reason_stays_one_printable_line(bench, lost):
    bench.fill({"a": [{"requested_bytes": lost("no\ncompiler\x1b[31m")}]}, ["requested_bytes"])
    (note,) = bench.table().notes
    assert note == "requested_bytes: missing for a (1 of 1 seed): no compiler�[31m"


@pytest.mark.parametrize(("reason", "told"), [("needs: a GPU", ": needs: a GPU"), ("", "")])
def test_a_derived_metric_that_raises_missing_gives_its_reason(bench, reason, told):
    bench.fill({"a": [{"peak_bytes": 1.0}]}, ["peak_bytes", "workspace_bytes"])
    table = bench.table(lambda config: Raising(reason))
    assert table.rows[0].entries[1].mean.n == 0
    assert table.notes == [f"workspace_bytes: missing for a (1 of 1 seed){told}"]


@pytest.mark.parametrize("answer", [None, math.nan])
def test_a_derived_metric_lacks_what_it_needs_for_the_same_reason(bench, lost, answer):
    cells = [
        {"requested_bytes": lost("no compiler"), "peak_bytes": 1.0},
        {"requested_bytes": 3.0, "peak_bytes": 1.0},
    ]
    bench.fill({"a": cells}, ["workspace_bytes"])
    table = bench.table(lambda config: Workspace(answer))
    assert (table.rows[0].entries[0].mean.value, table.rows[0].entries[0].mean.n) == (2.0, 1)
    assert table.notes == ["workspace_bytes: missing for a (1 of 2 seeds): no compiler"]


def test_a_derived_metric_without_value_names_each_reason_once(bench, lost):
    both = {"requested_bytes": lost("no compiler"), "peak_bytes": lost("no GPU", "peak_bytes")}
    bench.fill({"a": [both]}, ["workspace_bytes"])
    table = bench.table(lambda config: Workspace())
    assert table.notes == ["workspace_bytes: missing for a (1 of 1 seed): no compiler; no GPU"]


def test_a_group_metric_lacks_what_the_baseline_lacks(bench, lost):
    methods = {
        "exact": [{"requested_bytes": lost("no compiler")}],
        "a": [{"requested_bytes": 2.0}],
    }
    bench.fill(methods, ["skill"], baseline="exact")
    assert bench.table(lambda config: Gain()).notes == [
        "skill: missing for exact (1 of 1 seed), a (1 of 1 seed): no compiler"
    ]


def test_an_undefined_value_whose_needs_are_there_stays_undefined(bench):
    bench.fill({"a": [{"requested_bytes": math.nan, "peak_bytes": 1.0}]}, ["workspace_bytes"])
    table = bench.table(lambda config: Workspace())
    assert table.notes == ["workspace_bytes: undefined for a (1 of 1 seed)"]


def test_an_export_leaves_a_missing_value_empty_and_a_diverged_one_nan(bench, lost):
    cells = [{"requested_bytes": lost("no compiler")}, {"requested_bytes": math.nan}]
    bench.fill({"a": cells}, ["requested_bytes"])
    found = list(export.rows(plans.plans(bench.store)))
    assert [tuple(row) for row in found] == [export.COLUMNS] * 2
    texts = {}
    for format, write in export.WRITERS.items():
        file = io.StringIO()
        write(found, file)
        texts[format] = file.getvalue()
    assert [row["value"] for row in csv.DictReader(io.StringIO(texts["csv"]))] == ["", "nan"]
    values = [json.loads(line)["value"] for line in texts["jsonl"].splitlines()]
    assert values == [None, None]
