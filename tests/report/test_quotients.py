"""Quotients in reports: of means over seeds, with Fieller's interval, in tables and exports."""

import math
import random

import pytest

from sketchbench import Missing, Quotient, statistics
from sketchbench.report import export, numerals, plans


class Share(Quotient):
    """(m − control) / (baseline − control) of the accuracy."""

    name = "share"
    unit = "fraction"
    direction = "higher"
    margin = 0.01

    @property
    def needs(self):
        return ("accuracy",)

    def terms(self, cell, baseline, control):
        if baseline is None or control is None:
            raise Missing("no baseline")
        floor = control.value("accuracy")
        return cell.value("accuracy") - floor, baseline.value("accuracy") - floor


METHODS = {
    "exact": (0.90, 0.92, 0.91),
    "half": (0.70, 0.72, 0.69),
    "zero": (0.50, 0.49, 0.51),
}


@pytest.fixture
def filled(bench, each):
    def fill(**methods):
        cells = {label: each("accuracy", *values) for label, values in (METHODS | methods).items()}
        bench.fill(cells, ["accuracy", "skill"], baseline="exact", control="zero")
        return bench

    return fill


def test_a_method_has_the_quotient_of_means_and_its_interval(filled):
    table = filled().table(lambda config: Share())
    expected = statistics.quotient([(0.20, 0.40), (0.23, 0.43), (0.18, 0.40)])
    found = table.rows[1].entries[1].mean
    assert (found.value, found.low, found.high) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert (found.n, found.of) == (3, 3)
    ends = [(row.entries[1].mean.low, row.entries[1].mean.high) for row in table.rows[::2]]
    assert ends == [(1.0, 1.0), (0.0, 0.0)]


def test_it_is_shown_with_both_ends_and_without_a_difference(filled):
    text = filled().text(lambda config: Share())
    line = next(line for line in text.splitlines() if line.startswith("half"))
    assert line.endswith("0.50 [0.38, 0.59]")
    assert "[low, high]: Fieller's 95 % interval of a quotient of means over seeds" in text
    assert "skill: " not in text  # the control has said of the accuracy what there is to say


def test_a_baseline_that_could_be_the_control_leaves_it_undefined(filled):
    bench = filled(zero=(0.95, 0.89, 0.91))
    table = bench.table(lambda config: Share())
    assert all(math.isnan(row.entries[1].mean.value) for row in table.rows)
    below = statistics.mean([0.90 - 0.95, 0.92 - 0.89, 0.0])
    told = f"the denominator is {below.value:.2g} ± {below.half_width:.2g}"
    note = f"skill: undefined for exact, half, zero: {told}, which can't be told from 0"
    assert note in table.notes
    (half,) = [line for line in bench.text(lambda config: Share()).splitlines() if "half  " in line]
    assert half.split()[-1] == "–"


def test_a_seed_whose_denominator_is_zero_still_counts(filled):
    table = filled(zero=(0.50, 0.49, 0.91), half=(0.7, 0.7, 0.91)).table(lambda config: Share())
    assert table.rows[1].entries[1].mean.n == 3
    assert not [note for note in table.notes if note.startswith("skill: undefined for half (1")]


def test_a_quotient_of_what_is_no_number_has_its_reason(filled):
    table = filled(half=(0.7, math.nan, 0.69)).table(lambda config: Share())
    assert "accuracy, skill: it is nan for half (1 of 3 seeds)" in table.notes
    assert table.rows[1].entries[1].mean.n == 2


def test_a_quotient_names_what_is_missing_beneath_it(filled, bench):
    lost = bench.measured("accuracy", math.nan, why="no test split")
    table = filled(half=(0.7, lost, 0.69)).table(lambda config: Share())
    reason = "missing for half (1 of 3 seeds): no test split"
    assert any("skill" in note and note.endswith(reason) for note in table.notes)


def pooled(bench):
    found = export.rows(plans.plans(bench.store), lambda config: Share())
    return [row for row in found if row["metric"] == "skill" and row["seed"] is None]


def test_pooled_rows_of_two_selections_are_told_apart(filled, each):
    bench = filled()
    quick = {label: each("accuracy", *values[:2]) for label, values in METHODS.items()}
    names = {"metrics": ["accuracy", "skill"], "baseline": "exact", "control": "zero"}
    bench.fill(quick, selection="quick", **names)
    halves = [row["cell"] for row in pooled(bench) if row["label"] == "half"]
    assert len(halves) == 6
    assert len(set(halves)) == 2
    assert all(cell.startswith("pooled-") for cell in halves)
    assert [row["cell"] for row in pooled(bench) if row["label"] == "half"] == halves


def test_pooled_rows_in_two_selections_of_the_same_cells_appear_once(filled):
    bench = filled()
    before = pooled(bench)
    (_, _, outline), *_ = bench.store.outlines()
    bench.store.place("toy", "b", 1, outline, bench.store.placements("toy", ""), whole=True)
    assert pooled(bench) == before


def test_another_baseline_makes_another_pool(filled):
    bench = filled()
    (_, _, outline), *_ = bench.store.outlines()
    outline["experiments"][0]["baseline"] = "half"
    bench.store.place("toy", "b", 1, outline, bench.store.placements("toy", ""), whole=True)
    rows = [row for row in pooled(bench) if row["label"] == "exact" and not row["part"]]
    assert rows[0]["cell"] != rows[1]["cell"]


def test_an_export_has_each_seed_and_the_quotient_with_its_ends(filled):
    bench = filled()
    found = [
        row
        for row in export.rows(plans.plans(bench.store), lambda config: Share())
        if row["metric"] == "skill" and row["label"] == "half"
    ]
    assert [(row["seed"], row["part"]) for row in found] == [
        *((0, None), (1, None), (2, None)),
        *((None, None), (None, "low"), (None, "high")),
    ]
    pooled = statistics.quotient([(0.20, 0.40), (0.23, 0.43), (0.18, 0.40)])
    values = [row["value"] for row in found]
    assert values == pytest.approx(
        [0.2 / 0.4, 0.23 / 0.43, 0.18 / 0.40, pooled.value, pooled.low, pooled.high]
    )


@pytest.mark.parametrize(
    ("found", "spelt"),
    [
        (statistics.Quotient(0.93, 0.851, 1.02, 5, 5), "0.930 [0.851, 1.020]"),
        (statistics.Quotient(-0.012, -0.3, 0.4, 5, 5), "-0.01 [-0.30, 0.40]"),
        (statistics.Quotient(0.5, None, None, 1, 1), "0.5000"),
        (statistics.Quotient(1.0, 1.0, 1.0, 5, 5), "1 ± 0"),
        (statistics.Quotient(math.nan, None, None, 5, 5), "–"),
    ],
)
def test_spelling(found, spelt):
    assert numerals.quotient(found) == spelt


def test_every_quotient_is_spelt_with_its_value_between_the_ends():
    rng = random.Random(0)
    for _ in range(300):
        low, value, high = sorted(rng.gauss(0, 10 ** rng.uniform(-6, 6)) for _ in range(3))
        text = numerals.quotient(statistics.Quotient(value, low, high, 3, 3))
        numbers = text.replace("[", "").replace("]", "").replace(",", "").split()
        if "±" not in text:
            assert float(numbers[1]) <= float(numbers[0]) <= float(numbers[2])
