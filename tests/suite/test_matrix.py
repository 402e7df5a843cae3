"""The matrix: axes, labels, points, roles, and places of what is wrong in them."""

import pytest

LEVELS = "(known: broken, unbiased, wrapped, zero-gradient)"


def labels(suite):
    return [tuple(cell.axes.values()) for cell in suite.cells]


def test_a_product_varies_the_last_axis_fastest(read, train):
    matrix = """
matrix:
  workload.activation: {exact: null, null: checkpoint, 1e-3: {use: unbiased, rank: 3}}
  workload.epochs: [1, 0x10]
"""
    suite = read(train(matrix.replace("checkpoint", "unbiased")))
    assert set(labels(suite)) == {
        (activation, epochs)
        for activation in ("exact", "null", "1e-3")
        for epochs in ("1", "0x10")
    }
    assert suite.experiments[0].axes == {
        "workload.activation": ("exact", "null", "1e-3"),
        "workload.epochs": ("1", "0x10"),
    }
    cells = {tuple(cell.axes.values()): cell for cell in suite.cells}
    assert cells["1e-3", "0x10"].workload.activation.rank == 3
    assert cells["exact", "0x10"].workload.activation is None
    assert cells["exact", "0x10"].workload.epochs == 16
    assert cells["exact", "1"].label == "exact · 1"


def test_a_string_slot_on_a_path_becomes_a_mapping(read, train):
    suite = read(train("matrix: {workload.optimizer.lr: [1e-3, 0.5]}"))
    assert [cell.workload.optimizer.lr for cell in suite.cells] == [1e-3, 0.5]
    assert labels(suite) == [("1e-3",), ("0.5",)]


def test_a_path_leads_into_a_default_recipe(read, train):
    suite = read(train("matrix: {workload.model.hidden: [[1], [2, 3]]}"))
    assert [cell.workload.model.hidden for cell in suite.cells] == [(1,), (2, 3)]
    assert labels(suite) == [("[1]",), ("[2, 3]",)]


def test_list_entries_label_themselves(read, train):
    values = "[~, unbiased, {use: unbiased, rank: 2}, {use: unbiased, rank: 5}, 'zero-gradient',"
    values += " {use: wrapped, inner: {use: zero-gradient, scope: all}}]"
    with pytest.raises(Exception, match="a second value labelled 'unbiased'"):
        read(train(f"matrix: {{workload.activation: {values}}}"))
    suite = read(train(f"matrix: {{workload.activation: {values.replace(' unbiased,', '')}}}"))
    assert labels(suite) == [
        ("~",),
        ("unbiased",),
        ("unbiased(rank=5)",),
        ("zero-gradient",),
        ("wrapped(inner=zero-gradient(scope=all))",),
    ]


def test_an_empty_list_entry_is_labelled_null(read, train):
    assert labels(read(train("matrix:\n  workload.activation:\n    -\n    - unbiased"))) == [
        ("null",),
        ("unbiased",),
    ]


def test_a_list_of_matrices_is_a_union(read, train):
    suite = read(
        train("""
matrix:
  - {workload.activation: {exact: null, unbiased: unbiased}, workload.epochs: [1]}
  - {workload.activation: {exact: null}, workload.epochs: [1, 2]}
  - {workload.batch_size: [8]}
""")
    )
    assert [dict(cell.axes) for cell in suite.cells] == [
        {"workload.activation": "exact", "workload.epochs": "1"},
        {"workload.activation": "unbiased", "workload.epochs": "1"},
        {"workload.activation": "exact", "workload.epochs": "2"},
        {"workload.batch_size": "8"},
    ]
    assert suite.experiments[0].axes == {
        "workload.activation": ("exact", "unbiased"),
        "workload.epochs": ("1", "2"),
        "workload.batch_size": ("8",),
    }


def test_an_alias_serves_as_a_value(read, train):
    suite = read(
        train("matrix: {workload.activation: {a: &u {use: unbiased, rank: 7}, b: *u, c: null}}")
    )
    a, b, c = suite.cells
    assert a.workload == b.workload != c.workload
    assert a.id == b.id != c.id


@pytest.mark.parametrize(
    ("matrix", "mistake"),
    [
        ("{¶epochs: [1]}", "'epochs' is no path; write workload.…, like workload.epochs"),
        ("{¶workload: [fit]}", "'workload' is no path; write workload.…, like workload.epochs"),
        ("{¶workload.: [1]}", "'workload.' is no path; write workload.…, like workload.epochs"),
        (
            "{¶workload.optimizer.use: [adam, sgd]}",
            "'workload.optimizer.use' ends too late; the slot itself is workload.optimizer",
        ),
        (f"{{¶workload.{'a.' * 60}b: [1]}}", "a path of more than 50 names"),
        (
            "{workload.epochs: ¶3}",
            "workload.epochs: expected a mapping of labels to values, or a list of values; got 3",
        ),
        (
            "{workload.epochs: ¶[]}",
            "workload.epochs: expected a mapping of labels to values, or a list of values;"
            " got an empty one",
        ),
        (
            "{workload.epochs: ¶{}}",
            "workload.epochs: expected a mapping of labels to values, or a list of values;"
            " got an empty one",
        ),
        (
            "{workload.activation: ¶{use: unbiased}}",
            "workload.activation: one value where several are expected; write [{use: unbiased}]",
        ),
        (
            "{workload.note: [a, ¶'a']}",
            "workload.note: a second value labelled 'a'; write label: value",
        ),
        (
            "{workload.activation: [{use: unbiased, rank: 3}, ¶{rank: 3, use: unbiased}]}",
            "workload.activation: a second value labelled 'unbiased(rank=3)'; write label: value",
        ),
        ("{workload.note: [¶'']}", "workload.note: needs a label; write label: value"),
        ("{workload.note: [¶' a']}", "workload.note: needs a label; write label: value"),
        ("{workload.note: {¶'': a}}", "workload.note: a label is one line of text"),
        ('{workload.note: {¶"a\\nb": a}}', "workload.note: a label is one line of text"),
        (
            "{workload.optimizer: [adam], ¶workload.optimizer.lr: [1.0]}",
            "workload.optimizer.lr is a part of workload.optimizer, which is an axis too;"
            " vary the whole, with a label for each choice",
        ),
        (
            "{workload.optimizer.lr: [1.0], ¶workload.optimizer: [adam]}",
            "workload.optimizer.lr is a part of workload.optimizer, which is an axis too;"
            " vary the whole, with a label for each choice",
        ),
        (
            "[{workload.note: {a: x}}, {workload.note: {a: ¶y}}]",
            "workload.note: 'a' stands for another value in line 7",
        ),
        (
            "[{workload.epochs: {a: 1}}, {workload.epochs: {a: ¶true}}]",
            "workload.epochs: 'a' stands for another value in line 7",
        ),
        ("{¶workload.epochs.x: [1]}", "workload.epochs is 3 and has no parameters"),
        (
            "{¶workload.epoch: [1, 2]}",
            "workload.epoch: workload 'train' has no parameter 'epoch'; did you mean 'epochs'?"
            " (known: activation, batch_size, epochs, model, note, optimizer, task)",
        ),
        (
            "{¶workload.optimizer.momentum: [1, 2]}",
            "workload.optimizer.momentum: optimizer 'adam' has no parameter 'momentum';"
            " (known: lr)",
        ),
        (
            "{workload.activation: {a: {use: ¶unbiasd}}}",
            f"workload.activation: unknown activation_sketch 'unbiasd'; did you mean 'unbiased'?"
            f" {LEVELS}",
        ),
        (
            "{workload.activation: {a: ¶unbiasd}}",
            f"workload.activation: unknown activation_sketch 'unbiasd'; did you mean 'unbiased'?"
            f" {LEVELS}",
        ),
        (
            "{workload.activation: [{use: unbiased, ¶rnk: 3}]}",
            "workload.activation.rnk: activation_sketch 'unbiased' has no parameter 'rnk';"
            " did you mean 'rank'? (known: rank)",
        ),
        (
            "{workload.activation: [{use: wrapped, inner: {use: unbiased, rank: ¶x}}]}",
            "workload.activation.inner.rank: input should be a valid integer; got x",
        ),
        (
            "{workload.model.hidden: [[1, ¶x]]}",
            "workload.model.hidden.1: input should be a valid integer; got x",
        ),
        (
            "{workload.activation: [¶broken]}",
            "workload.activation: checking it raised KeyError: 'a bug of the plugin'",
        ),
    ],
)
def test_a_mistake_in_the_matrix_has_its_place(refused, train, matrix, mistake):
    if "broken" in matrix:
        pytest.skip("the place of a plugin's own error is its workload's; see below")
    if "epochs: {a: 1}}" in matrix or "epochs.x" in matrix:
        pass
    if "line 7" in mistake or "{a: ¶true}" in matrix:
        pass
    extra = []
    if "{a: ¶true}" in matrix:
        extra = []
    refused(train(f"matrix: {matrix}"), mistake, *extra)
