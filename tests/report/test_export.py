import csv
import io
import json
import math
import random

import pytest

from sketchbench.report import export, plans


class Twice:
    scope = "cell"
    needs = ("accuracy",)

    def derive(self, cell, baseline=None, control=None):
        return 2 * cell.value("accuracy") if cell.value("accuracy") < 0.6 else None


def rows(bench, **rest):
    return list(export.rows(plans.plans(bench.store), **rest))


def written(format, found):
    file = io.StringIO()
    export.WRITERS[format](found, file)
    return file.getvalue()


def test_a_value_is_one_row_with_the_documented_columns(bench, each):
    bench.fill({"a": each("accuracy", 0.5)})
    assert rows(bench) == [
        {
            "suite": "toy",
            "experiment": "main",
            "cell": "toy//None/a/0",
            "label": "a",
            "axes": '{"sketch": "a"}',
            "seed": 0,
            "status": "ok",
            "metric": "accuracy",
            "where": "test",
            "at": None,
            "value": 0.5,
            "part": None,
            "unit": "fraction",
            "direction": "higher",
            "machine": "alpha",
            "started": "2026-01-01T10:00:01",
        }
    ]
    assert tuple(rows(bench)[0]) == export.COLUMNS


def test_curves_have_at_and_parts_have_part(bench):
    curve = bench.measured("accuracy", 0.5, at=[1, 2], samples=[0.4, 0.5], seconds=[1, 2])
    time = bench.measured(
        "step_time", 2.0, parts={"median": 1.5, "occurrences": 2.0}, samples=[1.5, 2.5]
    )
    bench.fill({"a": [{"accuracy": curve, "step_time": time}]})
    told = [(r["metric"], r["at"], r["part"], r["value"], r["unit"]) for r in rows(bench)]
    assert told == [
        ("accuracy", None, None, 0.5, "fraction"),
        ("accuracy", 1.0, None, 0.4, "fraction"),
        ("accuracy", 2.0, None, 0.5, "fraction"),
        ("step_time", None, None, 2.0, "s"),
        ("step_time", None, "median", 1.5, "s"),
        ("step_time", None, "occurrences", 2.0, ""),
    ]
    extra = [r for r in rows(bench, samples=True) if r["part"] == "sample"]
    assert [(r["at"], r["value"]) for r in extra] == [(0.0, 1.5), (1.0, 2.5)]


@pytest.mark.parametrize("status", ["nan", "error", "timeout", "oom", "crash", "skipped"])
def test_a_cell_without_values_has_a_row_with_its_status(bench, cell, status):
    bench.fill({"a": [cell(status=status)]})
    (row,) = rows(bench)
    assert (row["status"], row["metric"], row["value"]) == (status, None, None)
    assert row["started"] == "2026-01-01T10:00:01"


def test_a_cell_that_has_not_run_has_a_row(bench, cell):
    bench.fill({"a": [cell(run=False)]})
    (row,) = rows(bench)
    assert (row["status"], row["machine"], row["started"]) == ("not run", None, None)


def test_derived_metrics_are_rows_where_their_plugin_is_there(bench, each):
    bench.fill({"a": each("accuracy", 0.5, 0.7)}, ["accuracy", "time_to_target"])
    assert len(rows(bench)) == 2
    assert len(rows(bench, derive=lambda config: None)) == 2
    found = [r for r in rows(bench, derive=lambda c: Twice()) if r["metric"] == "time_to_target"]
    assert [(r["seed"], r["value"], r["unit"]) for r in found] == [(0, 1.0, "s"), (1, None, "s")]


def test_a_cell_in_two_selections_appears_once(bench, each):
    bench.fill({"a": each("accuracy", 0.5)}, ["accuracy", "time_to_target"])
    (_, _, outline), *_ = bench.store.outlines()
    bench.store.place("toy", "b", 1, outline, bench.store.placements("toy", ""), whole=True)
    assert len(rows(bench, derive=lambda config: Twice())) == 2


def test_csv_gives_back_every_number_exactly(bench):
    rng = random.Random(0)
    values = [rng.uniform(-1, 1) * 10.0 ** rng.randint(-300, 300) for _ in range(50)]
    bench.fill({'a, "b"\n[x] é': [{"accuracy": value} for value in values]})
    text = written("csv", rows(bench))
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    assert text.partition("\n")[0] == ",".join(export.COLUMNS)
    assert [float(row["value"]) for row in found] == values
    assert {row["label"] for row in found} == {'a, "b"\n[x] é'}
    assert json.loads(found[0]["axes"]) == {"sketch": 'a, "b"\n[x] é'}
    assert {row["at"] for row in found} == {""}


def test_jsonl_gives_back_every_row(bench, cell):
    bench.fill({"é": [{"accuracy": 0.1 + 0.2}, cell(status="error")]})
    text = written("jsonl", rows(bench))
    assert [json.loads(line) for line in text.splitlines()] == rows(bench)
    assert "é" in text


def test_nan_is_nan_in_csv_and_null_in_jsonl(bench, each):
    bench.fill({"a": each("accuracy", math.nan)})
    (row,) = csv.DictReader(io.StringIO(written("csv", rows(bench))))
    assert row["value"] == "nan"
    assert json.loads(written("jsonl", rows(bench)))["value"] is None


def test_a_file_is_written_whole_or_not_at_all(bench, each, tmp_path):
    bench.fill({"a": each("accuracy", 0.5)})
    path = tmp_path / "out.csv"
    export.save(rows(bench), path, "csv")
    before = path.read_text()

    def failing():
        yield rows(bench)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export.save(failing(), path, "csv")
    assert path.read_text() == before == written("csv", rows(bench))
    assert [p.name for p in tmp_path.glob("*out*")] == ["out.csv"]


def test_a_new_file_is_readable_as_any_other(bench, tmp_path):
    ordinary, exported = tmp_path / "ordinary", tmp_path / "exported"
    ordinary.touch()
    export.save([], exported, "csv")
    assert exported.stat().st_mode == ordinary.stat().st_mode
