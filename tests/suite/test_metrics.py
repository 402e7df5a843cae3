"""The metrics of an experiment: names, places, and what the workload can give."""

import pytest


def wanted(suite):
    return [(w.metric.label(), w.where) for w in suite.experiments[0].metrics]


def fit(metrics):
    return f"suite: x\nexperiments:\n  - name: e\n    workload: fit\n    metrics: {metrics}\n"


def test_a_plain_score_is_read_at_test(read, train):
    assert wanted(read(train())) == [("accuracy", "test")]


def test_a_plain_score_without_a_test_split_is_read_at_every_outcome(read):
    assert wanted(read(fit("[accuracy]"))) == [("accuracy", "first"), ("accuracy", "second")]


def test_a_plain_probe_is_read_in_every_region_that_both_have(read, train):
    assert wanted(read(train(metrics="[step_time]"))) == [
        ("step_time", "step"),
        ("step_time", "build"),
    ]
    assert wanted(read(fit("[step_time]"))) == [("step_time", "step")]


def test_a_place_after_an_at_sign_or_under_at(read, train):
    metrics = "[accuracy@train, {use: accuracy, at: test}, {use: accuracy, top: 5, at: train},"
    metrics += " step_time@build]"
    suite = read(train(metrics=metrics))
    assert wanted(suite) == [
        ("accuracy", "train"),
        ("accuracy", "test"),
        ("accuracy(top=5)", "train"),
        ("step_time", "build"),
    ]
    assert [w.label() for w in suite.experiments[0].metrics] == (
        ["accuracy@train", "accuracy", "accuracy(top=5)@train", "step_time@build"]
    )


def test_a_derived_metric_is_read_nowhere(read, train):
    suite = read(train(metrics="[{use: time_to_target, target: 0.9}, accuracy]"))
    assert wanted(suite) == [("time_to_target(target=0.9)", ""), ("accuracy", "test")]


def test_a_derived_metric_may_need_a_place(read, train):
    derived = "{use: time_to_target, target: 0.9, metric: accuracy@train}"
    assert len(wanted(read(train(metrics=f"[accuracy@train, {derived}]")))) == 2


@pytest.mark.parametrize(
    ("metrics", "mistake"),
    [
        (
            "[¶acuracy]",
            "metrics: unknown metric 'acuracy'; did you mean 'accuracy'?"
            " (known: accuracy, relative_error, step_time, time_to_target)",
        ),
        (
            "[{use: ¶acuracy, top: 5}]",
            "metrics: unknown metric 'acuracy'; did you mean 'accuracy'?"
            " (known: accuracy, relative_error, step_time, time_to_target)",
        ),
        ("[¶3]", "metrics: expected one metric: a name, or a mapping with 'use'; got 3"),
        ("[¶~]", "metrics: expected one metric: a name, or a mapping with 'use'; got null"),
        (
            "[{use: accuracy, ¶topp: 5}]",
            "metrics.topp: metric 'accuracy' has no parameter 'topp'; did you mean 'top'?"
            " (known: top)",
        ),
        (
            "[{use: accuracy, top: ¶x}]",
            "metrics.top: input should be a valid integer; got x",
        ),
        (
            "[¶accuracy@tset]",
            "metrics: workload 'train' has no 'accuracy' at 'tset'; did you mean 'test'?"
            " (known: test, train)",
        ),
        (
            "[¶accuracy@]",
            "metrics: workload 'train' has no 'accuracy' at ''; (known: test, train)",
        ),
        (
            "[{use: accuracy, at: ¶[test]}]",
            "metrics.at: expected a place; got a list",
        ),
        (
            "[¶step_time@apply]",
            "metrics: workload 'train' has no 'step_time' at 'apply'; (known: build, step)",
        ),
        (
            "[¶relative_error]",
            "metrics: 'relative_error' judges Approximation; workload 'train' delivers"
            " train (Predictions), test (Predictions)",
        ),
        ("[accuracy, ¶accuracy]", "metrics: 'accuracy' is there already, in line 5"),
        ("[accuracy@test, ¶accuracy]", "metrics: 'accuracy' is there already, in line 5"),
        (
            "[accuracy, ¶{use: accuracy, top: 1}]",
            "metrics: 'accuracy' is there already, in line 5",
        ),
        (
            "[step_time@build, ¶step_time]",
            "metrics: 'step_time@build' is there already, in line 5",
        ),
        (
            "[step_time, ¶{use: time_to_target, target: 0.9}]",
            "metrics: 'time_to_target' needs 'accuracy'; add it to the metrics",
        ),
        (
            "[accuracy, ¶{use: time_to_target, target: 0.9, metric: accuracy@train}]",
            "metrics: 'time_to_target' needs 'accuracy@train'; add it to the metrics",
        ),
        (
            "[accuracy, ¶time_to_target]",
            "metrics: metric 'time_to_target' needs 'target'",
        ),
        (
            "[accuracy, ¶{use: time_to_target, target: 1.0, at: train}]",
            "metrics: 'time_to_target' is derived from other metrics; it has no '@train'",
        ),
    ],
)
def test_a_mistake_in_the_metrics_has_its_place(refused, train, metrics, mistake):
    refused(train(metrics=metrics), mistake)


def test_a_probe_of_a_region_that_the_workload_lacks(refused):
    refused(
        "suite: x\nexperiments:\n  - name: e\n"
        "    workload: {use: distort, sketch: {use: fixed, out_size: 3}}\n"
        "    metrics: [¶step_time]",
        "metrics: 'step_time' is measured in the region step or build; workload 'distort' has"
        " apply",
    )


def test_a_needed_metric_with_a_mistake_is_not_missed_twice(refused, train):
    refused(
        train(metrics="[¶accuracy@tset, {use: time_to_target, target: 0.9}]"),
        "metrics: workload 'train' has no 'accuracy' at 'tset'; did you mean 'test'?"
        " (known: test, train)",
    )
    refused(
        train(metrics="[{use: accuracy, top: ¶0}, {use: time_to_target, target: 0.9}]"),
        "metrics.top: input should be greater than or equal to 1; got 0",
    )


def test_metrics_of_an_unknown_workload_are_still_looked_up(refused):
    refused(
        fit("[¶acuracy, accuracy]").replace("fit", "¶fitt"),
        "workload: unknown workload 'fitt'; did you mean 'fit'? (known: distort, fit, train)",
        "metrics: unknown metric 'acuracy'; did you mean 'accuracy'?"
        " (known: accuracy, relative_error, step_time, time_to_target)",
    )
