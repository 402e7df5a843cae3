"""Tables of a tuned axis, and rows in the order of a metric."""

from dataclasses import replace

from sketchbench.report import arranging

RATES = {
    "0.1": {"exact": (0.5, 0.5), "sketch": (0.9, 0.7)},
    "0.01": {"exact": (0.6, 0.6), "sketch": (0.2, 0.2)},
}
TUNE = {"axis": "model", "by": "accuracy"}


def _methods(rates):
    return {
        rate: {name: [{"accuracy": v} for v in values] for name, values in by_method.items()}
        for rate, by_method in rates.items()
    }


def _filled(bench, methods=None, **outline):
    axes = {"model": list(RATES), "sketch": ["exact", "sketch"]}
    methods = methods or _methods(RATES)
    bench.fill(methods, baseline="exact", axes=axes, **outline)
    return bench.tables()


def test_each_method_is_shown_at_its_best_value(bench):
    (table,) = _filled(bench, tune=TUNE)
    exact, sketch = table.rows
    assert (exact.entries[0].mean.value, sketch.entries[0].mean.value) == (0.6, 0.8)
    assert table.labels == {"model": "best by accuracy of 0.1, 0.01"}
    assert "tuned: 0.01 for exact; 0.1 for sketch" in table.notes[0]


def test_without_tuning_every_value_has_its_table(bench):
    assert len(_filled(bench)) == 2


def test_a_value_that_loses_no_seed_is_better_than_one_that_does(bench, cell):
    methods = _methods(RATES)
    methods["0.1"]["sketch"][1] = cell(status="nan")
    (table,) = _filled(bench, methods, tune=TUNE)
    assert table.rows[1].entries[0].mean.value == 0.2
    assert "0.01 for exact, sketch" in table.notes[0]


def test_lower_is_better_where_the_metric_says_so(bench):
    methods = {
        rate: {name: [{"relative_error": v} for v in values] for name, values in by_method.items()}
        for rate, by_method in RATES.items()
    }
    axes = {"model": list(RATES), "sketch": ["exact", "sketch"]}
    bench.fill(
        methods, ("relative_error",), axes=axes, tune={"axis": "model", "by": "relative_error"}
    )
    (table,) = bench.tables()
    assert [row.entries[0].mean.value for row in table.rows] == [0.5, 0.2]


def test_rows_come_in_the_order_of_a_metric_and_what_has_none_comes_last(bench, each, cell):
    methods = {
        "lost": [cell(status="error")],
        "large": each("accuracy", 0.9),
        "small": each("accuracy", 0.1),
    }
    bench.fill(methods, sort="accuracy", baseline="large")
    assert [row.method for row in bench.table().rows] == ["small", "large", "lost"]


def test_cells_lost_at_other_values_are_told(bench, cell):
    methods = _methods(RATES)
    methods["0.01"]["sketch"] = [{"accuracy": 0.2}, cell(run=False)]
    methods["0.1"]["exact"][0] = cell(status="nan")
    (table,) = _filled(bench, methods, tune=TUNE)
    assert "of 4 cells at other values 1 nan, 1 not run" in table.notes[0]


def test_nothing_is_chosen_where_nothing_was_measured(bench, cell):
    methods = {
        rate: {name: [cell(run=False)] * 2 for name in by_method}
        for rate, by_method in RATES.items()
    }
    (table,) = _filled(bench, methods, tune=TUNE)
    assert table.notes[0].startswith("nothing to tune by yet; of 4 cells")


def test_one_value_is_no_tuning(bench):
    methods = {"0.1": _methods(RATES)["0.1"]}
    (table,) = _filled(bench, methods, tune=TUNE)
    assert table.labels == {"model": "0.1"}
    assert not any("tuned" in note for note in table.notes)


def test_groups_without_the_axis_stay(bench):
    (group, *_) = _groups(bench)
    bare = replace(group, labels={})
    for order in ([group, bare], [bare, group]):
        assert arranging.tuned(order, "model", "accuracy") == order


def _groups(bench):
    from sketchbench.report import groups, plans

    _filled(bench)
    (plan,) = plans.plans(bench.store)
    return groups.groups(plan.outline, plan.placements, plan.records)
