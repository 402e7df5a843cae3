"""What a suite says of the order of its tables: a metric to sort by, an axis to tune."""

import pytest

TUNED = """
matrix:
  workload.epochs: [1, 2]
  workload.activation: {exact: null, u: unbiased}
baseline: exact
"""


def test_an_outline_tells_what_is_sorted_and_what_is_tuned(read, train):
    text = TUNED + "sort: accuracy\ntune: {axis: workload.epochs, by: accuracy}"
    (experiment,) = read(train(text)).experiments
    outline = experiment.outline()
    assert outline["sort"] == "accuracy"
    assert outline["tune"] == {"axis": "workload.epochs", "by": "accuracy"}
    (plain,) = read(train(TUNED)).experiments
    assert (plain.outline()["sort"], plain.outline()["tune"]) == (None, None)


@pytest.mark.parametrize(
    ("keys", "mistake"),
    [
        (
            "sort: ¶acuracy",
            "sort: no metric 'acuracy' here; did you mean 'accuracy'? (known: accuracy)",
        ),
        (
            "tune: {axis: workload.epochs, by: ¶acuracy}",
            "tune: no metric 'acuracy' here; did you mean 'accuracy'? (known: accuracy)",
        ),
        (
            "tune: {axis: ¶workload.activation, by: accuracy}",
            "tune: 'workload.activation' is no axis beside the methods'; (known: workload.epochs)",
        ),
        ("tune: ¶{by: accuracy}", "tune needs 'axis'"),
        ("tune: ¶accuracy", "tune: expected a mapping with axis and by; got accuracy"),
        ("sort: ¶[accuracy]", "sort: expected a metric of the experiment; got a list"),
    ],
)
def test_a_mistake_has_its_place(refused, train, keys, mistake):
    refused(train(TUNED + keys), mistake)
