"""Baseline, control, and the axis of the methods."""

import pytest

ROLES = """
matrix:
  workload.epochs: [1, 2]
  workload.activation: {exact: null, zero: zero-gradient, u: unbiased}
"""


def test_the_method_axis_holds_the_baseline(read, train):
    for roles, axis in [
        ("", "workload.epochs"),
        ("baseline: exact", "workload.activation"),
        ("baseline: exact\ncontrol: zero", "workload.activation"),
        ("control: zero", "workload.activation"),
        ("baseline: 1", "workload.epochs"),
    ]:
        (experiment,) = read(train(ROLES + roles)).experiments
        assert experiment.method_axis == axis
    assert (experiment.baseline, experiment.control) == ("1", None)


def test_without_a_matrix_there_is_no_method_axis(read, train):
    (experiment,) = read(train()).experiments
    assert (experiment.method_axis, experiment.axes) == (None, {})


def test_a_null_baseline_is_the_label_null(read, train):
    (experiment,) = read(
        train("matrix: {workload.activation: [null, unbiased]}\nbaseline: null")
    ).experiments
    assert experiment.baseline == "null"


@pytest.mark.parametrize(
    ("roles", "mistake"),
    [
        (
            "baseline: ¶exat",
            "baseline: the matrix has no label 'exat'; did you mean 'exact'?"
            " (known: 1, 2, exact, u, zero)",
        ),
        (
            "control: ¶zeros",
            "control: the matrix has no label 'zeros'; did you mean 'zero'?"
            " (known: 1, 2, exact, u, zero)",
        ),
        (
            "baseline: exact\ncontrol: ¶2",
            "control: '2' is on workload.epochs, the baseline on workload.activation;"
            " both must be on one axis",
        ),
    ],
)
def test_a_role_that_no_label_has(refused, train, roles, mistake):
    refused(train(ROLES + roles), mistake)


def test_a_role_that_two_axes_have(refused, train):
    refused(
        train("matrix: {workload.epochs: [1, 2], workload.batch_size: [2, 4]}\nbaseline: ¶2"),
        "baseline: '2' is a label of workload.epochs and of workload.batch_size; rename one",
    )
