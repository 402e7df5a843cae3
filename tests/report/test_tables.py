import math

import pytest

STATUSES = ("nan", "error", "timeout", "oom", "crash", "interrupted", "skipped")


class Reached:
    """A derived metric of a cell: a fixed rule over the accuracy."""

    scope = "cell"
    needs = ("accuracy",)

    def derive(self, cell, baseline=None, control=None):
        assert baseline is None
        return 10 * cell.value("accuracy") if cell.value("accuracy") > 0.8 else None


class Skill:
    """A derived metric of a group: the gain over the baseline."""

    scope = "group"
    needs = ("accuracy",)

    def derive(self, cell, baseline=None, control=None):
        return None if baseline is None else cell.value("accuracy") - baseline.value("accuracy")


class Broken(Skill):
    def derive(self, cell, baseline=None, control=None):
        raise ZeroDivisionError("division\nby zero")


def test_rows_are_in_the_order_of_the_suite(bench, each):
    methods = {"b": each("accuracy", 0.1), "a": each("accuracy", 0.2), "c": each("accuracy", 0.3)}
    bench.fill(methods, axes=None)
    assert [row.method for row in bench.table().rows] == ["b", "a", "c"]


def test_mean_over_seeds_and_paired_difference_to_the_baseline(bench, each):
    methods = {"exact": each("accuracy", 0.8, 0.6), "sketch": each("accuracy", 0.7, 0.4)}
    bench.fill(methods, baseline="exact")
    exact, sketch = bench.table().rows
    assert (exact.role, sketch.role) == ("baseline", "")
    assert exact.entries[0].change is None
    assert sketch.entries[0].mean.value == pytest.approx(0.55)
    assert sketch.entries[0].change.value == pytest.approx(-0.15)
    assert sketch.entries[0].change.half_width == pytest.approx(0.05 * math.tan(math.pi * 0.475))


def test_relative_metrics_are_compared_as_ratios(bench, each):
    methods = {"exact": each("peak_bytes", 100.0, 300.0), "sketch": each("peak_bytes", 50.0, 150.0)}
    bench.fill(methods, ["peak_bytes"], baseline="exact")
    change = bench.table().rows[1].entries[0].change
    assert (change.value, change.low, change.high) == pytest.approx((0.5, 0.5, 0.5))


def test_the_best_mean_is_marked_by_direction(bench):
    values = ({"accuracy": 0.5, "peak_bytes": 9.0}, {"accuracy": 0.7, "peak_bytes": 12.0})
    bench.fill({"a": [values[0]], "b": [values[1]]}, ["accuracy", "peak_bytes"])
    best = [[entry.best for entry in row.entries] for row in bench.table().rows]
    assert best == [[False, True], [True, False]]


def test_the_control_does_not_compete(bench, each):
    methods = {
        name: each("accuracy", value) for name, value in (("a", 0.5), ("b", 0.6), ("z", 0.9))
    }
    bench.fill(methods, control="z")
    assert [row.entries[0].best for row in bench.table().rows] == [False, True, False]


def test_a_method_that_lost_a_seed_does_not_compete(bench, cell, each):
    lost = [{"accuracy": 0.9}, cell(status="nan")]
    methods = {"a": each("accuracy", 0.5, 0.5), "b": each("accuracy", 0.6, 0.6), "c": lost}
    bench.fill(methods)
    assert [row.entries[0].best for row in bench.table().rows] == [False, True, False]


def test_means_within_the_margin_of_the_best_are_as_good(bench, each):
    values = {"a": 0.900, "b": 0.905, "c": 0.8, "d": 0.889}
    bench.fill({method: each("accuracy", value, value) for method, value in values.items()})
    assert [row.entries[0].best for row in bench.table().rows] == [True, True, False, False]


def test_nothing_is_best_where_all_are_equal(bench, each):
    bench.fill({"a": each("accuracy", 0.5), "b": each("accuracy", 0.5)})
    assert not any(row.entries[0].best for row in bench.table().rows)


@pytest.mark.parametrize("status", STATUSES)
def test_a_failed_cell_is_counted_with_its_status_and_reason(bench, cell, status):
    bad = cell({"accuracy": 0.1}, status=status, reason="because")
    bench.fill({"a": [{"accuracy": 0.5}, bad], "b": [bad, bad]})
    table = bench.table()
    assert [(row.ok, row.planned) for row in table.rows] == [(1, 2), (0, 2)]
    assert [row.statuses for row in table.rows] == [{status: 1}, {status: 2}]
    assert table.rows[0].entries[0].mean.value == 0.5
    assert table.rows[1].entries[0].mean.n == 0
    assert table.notes == [f"{status} × 3: because (a, seed 1, b, seeds 0-1)"]


def test_each_distinct_reason_is_told_once(bench, cell):
    lost = [cell(status="error", reason=reason) for reason in ("one", "two", "one", "one")]
    bench.fill({"a": lost})
    assert bench.table().notes == [
        "error × 3: one (a, seeds 0, 2-3)",
        "error × 1: two (a, seed 1)",
    ]


def test_cells_that_have_not_run_are_counted(bench, cell):
    bench.fill({"a": [{"accuracy": 0.5}, cell(run=False)], "b": [cell(run=False)] * 2})
    table = bench.table()
    assert [row.statuses for row in table.rows] == [{"not run": 1}, {"not run": 2}]
    assert table.notes == ["3 of 4 cells not run yet"]


def test_the_newest_record_of_a_cell_counts(bench, cell):
    bench.fill({"a": [cell(status="error")]})
    bench.add("toy//None/a/0", cell({"accuracy": 0.5}))
    assert bench.table().rows[0].ok == 1


def test_a_later_failure_hides_no_sound_record_but_is_told(bench, cell):
    bench.fill({"a": [{"accuracy": 0.5}], "b": [{"accuracy": 0.6}]})
    bench.add("toy//None/a/0", cell(status="timeout"))
    table = bench.table()
    assert [row.ok for row in table.rows] == [1, 1]
    assert table.notes == [
        "measured again and ended in timeout, the earlier record is shown: a, seed 0"
    ]


def test_nan_in_an_ok_record_is_counted_not_dropped(bench, each):
    bench.fill({"a": each("accuracy", 0.5, math.nan, 0.7)})
    mean = bench.table().rows[0].entries[0].mean
    assert (mean.value, mean.n, mean.of) == (pytest.approx(0.6), 2, 3)
    assert bench.table().notes == ["accuracy: it is nan for a (1 of 3 seeds)"]


def test_a_metric_that_a_record_lacks_is_noted(bench, each):
    bench.fill({"a": each("accuracy", 0.5)}, ["accuracy", "step_time"])
    assert bench.table().rows[0].entries[1].mean.n == 0
    assert bench.table().notes == ["step_time: not measured for a (1 of 1 seed)"]


def test_an_unusual_place_is_read(bench):
    bench.fill({"a": [{"accuracy": 0.5, "accuracy@train": 0.9}]}, ["accuracy@train", "accuracy"])
    assert [entry.mean.value for entry in bench.table().rows[0].entries] == [0.9, 0.5]


def test_derived_metrics_are_computed_when_read(bench, each):
    methods = {"a": each("accuracy", 0.9, 0.9, 0.7), "b": each("accuracy", 0.5, 0.6, 0.7)}
    bench.fill(methods, ["time_to_target"])
    seen = []
    table = bench.table(lambda config: seen.append(config) or Reached())
    assert seen == [{"use": "time_to_target"}]
    assert table.rows[0].entries[0].mean.value == 9.0
    assert (table.rows[0].entries[0].mean.n, table.rows[0].entries[0].mean.of) == (2, 3)
    assert table.rows[1].entries[0].mean.n == 0
    assert table.notes == ["time_to_target: undefined for a (1 of 3 seeds), b (3 of 3 seeds)"]


def test_a_group_metric_sees_the_baseline_of_its_seed(bench, cell, each):
    exact = [{"accuracy": 0.8}, {"accuracy": 0.9}, cell(status="error")]
    bench.fill({"exact": exact, "a": each("accuracy", 0.7, 0.7, 0.7)}, ["skill"], baseline="exact")
    mean = bench.table(lambda config: Skill()).rows[1].entries[0].mean
    assert (mean.value, mean.n, mean.of) == (pytest.approx(-0.15), 2, 3)


def test_a_derived_metric_that_fails_costs_its_column_only(bench, each):
    bench.fill({"a": each("accuracy", 0.7)}, ["accuracy", "skill"])
    table = bench.table(lambda config: Broken())
    assert table.rows[0].entries[0].mean.value == 0.7
    assert table.notes == [
        "skill: it failed with ZeroDivisionError for a (1 of 1 seed): division by zero"
    ]


@pytest.mark.parametrize("derive", [None, lambda config: None])
def test_a_derived_metric_without_its_plugin_says_so(bench, each, derive):
    bench.fill({"a": each("accuracy", 0.7)}, ["skill"])
    assert bench.table(derive).columns[0].missing
    assert bench.table(derive).notes == ["skill: no installed plugin has this metric"]


def test_no_plugin_is_asked_for_without_derived_metrics(bench, each):
    bench.fill({"a": each("accuracy", 0.7)})
    bench.table(lambda config: pytest.fail("asked"))


def test_times_pair_within_a_session_only(bench, cell):
    later = bench.store.begin_session("2026-01-02", "beta", {})
    values = {"step_time": 2.0, "peak_bytes": 2.0}
    other = cell({"step_time": 6.0, "peak_bytes": 2.0}, session=later)
    bench.fill(
        {"exact": [values] * 3, "a": [values, values, other]},
        ["step_time", "peak_bytes"],
        baseline="exact",
    )
    table = bench.table()
    time, size = table.rows[1].entries
    assert (time.change.value, time.change.n, time.change.of) == (1.0, 2, 3)
    assert (size.change.n, size.change.of) == (3, 3)
    assert table.notes == ["step_time: baseline measured in another session for a (1 of 3 seeds)"]


def test_a_derived_time_pairs_by_the_session_of_what_it_needs(bench, cell):
    later = bench.store.begin_session("2026-01-02", "beta", {})
    bench.fill(
        {"exact": [{"accuracy": 0.9}], "a": [cell({"accuracy": 0.9}, session=later)]},
        ["time_to_target"],
        baseline="exact",
    )
    assert bench.table(lambda config: Reached()).rows[1].entries[0].change.n == 0


def test_groups_differ_in_the_other_axes(bench, each):
    groups = {
        model: {"exact": each("accuracy", value), "a": each("accuracy", value / 2)}
        for model, value in (("mlp", 0.5), ("cnn", 0.9))
    }
    axes = {"model": ["mlp", "cnn"], "sketch": ["exact", "a"]}
    bench.fill(groups, axes=axes, baseline="exact")
    mlp, cnn = bench.tables()
    assert (mlp.labels, cnn.labels) == ({"model": "mlp"}, {"model": "cnn"})
    assert mlp.rows[1].entries[0].change.value == pytest.approx(-0.25)
    assert cnn.rows[1].entries[0].change.value == pytest.approx(-0.45)


def test_a_group_without_the_baseline_has_no_changes(bench, each):
    groups = {"mlp": {"exact": each("accuracy", 0.5)}, "cnn": {"a": each("accuracy", 0.9)}}
    axes = {"model": ["mlp", "cnn"], "sketch": ["exact", "a"]}
    bench.fill(groups, axes=axes, baseline="exact")
    table = bench.tables()[1]
    assert table.baseline is None
    assert table.rows[0].entries[0].change is None
    assert table.notes == ["the baseline 'exact' has no cell in this group"]


def test_a_baseline_that_failed_leaves_changes_undefined(bench, cell, each):
    bench.fill({"exact": [cell(status="oom")], "a": each("accuracy", 0.5)}, baseline="exact")
    change = bench.table().rows[1].entries[0].change
    assert (change.n, change.of) == (0, 0)


def test_without_a_method_axis_all_cells_share_a_table(bench, each):
    bench.fill({"a": each("accuracy", 0.5), "b": each("accuracy", 0.6)}, method_axis=None)
    assert [row.method for row in bench.table().rows] == ["a", "b"]


def test_labels_that_the_outline_does_not_know_come_last(bench, each):
    methods = {"old": {"accuracy": 0.1}, "new": {"accuracy": 0.2}}
    bench.fill(
        {"mlp": {name: [values] for name, values in methods.items()}},
        axes={"sketch": ["new"], "model": ["mlp"]},
    )
    assert [row.method for row in bench.table().rows] == ["new", "old"]


def test_the_control_tells_which_methods_do_nothing(bench, each):
    methods = {
        "exact": each("accuracy", 0.90, 0.91, 0.92),
        "same": each("accuracy", 0.5, 0.52, 0.48),
        "worse": each("accuracy", 0.10, 0.11, 0.12),
        "zero": each("accuracy", 0.49, 0.5, 0.51),
    }
    bench.fill(methods, control="zero")
    assert bench.table().notes == [
        "accuracy: not distinguishable from the control 'zero': same; "
        "worse than the control 'zero': worse"
    ]


def test_the_control_is_told_where_every_method_beats_it(bench, each):
    methods = {"a": each("accuracy", 0.90, 0.91), "zero": each("accuracy", 0.49, 0.5)}
    bench.fill(methods, control="zero")
    assert bench.table().notes == ["accuracy: every method is better than the control 'zero'"]


def test_one_seed_cannot_tell_from_the_control(bench, each):
    bench.fill({"a": each("accuracy", 0.90), "zero": each("accuracy", 0.49)}, control="zero")
    assert bench.table().notes == [
        "accuracy: too few pairs of seeds to tell from the control 'zero': a"
    ]


def test_the_control_judges_relative_errors_by_ratio_and_no_resources(bench):
    values = [{"relative_error": e, "peak_bytes": 1.0, "step_time": 1.0} for e in (0.1, 0.11)]
    control = [{"relative_error": e, "peak_bytes": 1.0, "step_time": 1.0} for e in (0.9, 0.98)]
    bench.fill({"a": values, "zero": control}, list(values[0]), control="zero")
    assert bench.table().notes == ["relative_error: every method is better than the control 'zero'"]


def test_long_lists_of_names_are_cut(bench, each):
    bench.fill({f"m{i}": [{}] for i in range(20)} | {"measured": [{"accuracy": 0.5}]})
    (note,) = bench.table().notes
    assert note.endswith("m7 (1 of 1 seed), … 12 more")


def test_what_several_metrics_share_is_noted_once(bench):
    metrics = ["accuracy", "step_time", "peak_bytes"]
    bench.fill({"a": [dict.fromkeys(["accuracy"], 0.5)]}, metrics)
    assert bench.table().notes == ["step_time, peak_bytes: not measured for a (1 of 1 seed)"]
