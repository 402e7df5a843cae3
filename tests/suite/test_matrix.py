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
        (activation, epochs) for activation in ("exact", "null", "1e-3") for epochs in ("1", "0x10")
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
    values = "[~, {use: unbiased, rank: 2}, {use: unbiased, rank: 5}, 'zero-gradient',"
    values += " {use: wrapped, inner: {use: zero-gradient, scope: all}}]"
    suite = read(train(f"matrix: {{workload.activation: {values}}}"))
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
        ("{¶epochs: [1]}", "'epochs' is no path; write workload.…, as in workload.epochs"),
        ("{¶workload: [fit]}", "'workload' is no path; write workload.…, as in workload.epochs"),
        ("{¶workload.: [1]}", "'workload.' is no path; write workload.…, as in workload.epochs"),
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
            "{workload.activation: [unbiased, ¶{use: unbiased, rank: 2}]}",
            "workload.activation: a second value labelled 'unbiased'; write label: value",
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
            "workload.note: 'a' stands for another value in line 6",
        ),
        (
            "[{workload.epochs: {a: 1}}, {workload.epochs: {a: ¶true}}]",
            "workload.epochs: 'a' stands for another value in line 6",
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
    refused(train(f"matrix: {matrix}"), mistake)


def test_a_mistake_at_many_points_and_seeds_is_told_once(refused, train):
    refused(
        train("""
matrix:
  workload.activation: {a: null, b: {use: unbiased, rank: ¶0}}
  workload.batch_size: [1, 2, 3]
  workload.epochs: [1, ¶x]
""").replace("suite: demo", "suite: demo\nseeds: 5"),
        "workload.activation.rank: input should be greater than or equal to 1; got 0",
        "workload.epochs: input should be a valid integer; got x",
    )


def test_a_mistake_of_the_whole_workload_is_at_the_workload(refused, train):
    text = train("matrix: {workload.epochs: [12, 13]}").replace("workload: {", "workload: ¶{")
    refused(text, "workload: 13 epochs bring bad luck")


def test_a_mistake_behind_an_alias_is_where_it_is_written(refused, train):
    refused(
        train("matrix: {workload.activation: {a: &u {use: unbiased, rank: ¶x}, b: *u}}"),
        "workload.activation.rank: input should be a valid integer; got x",
    )


def test_a_missing_parameter_is_at_its_mapping(refused):
    refused(
        "suite: x\nexperiments:\n  - name: e\n    workload: {use: distort, sketch: ¶fixed}\n"
        "    metrics: [relative_error]\n    matrix:\n      workload.epochs: [1, 2]",
        "workload.sketch: gradient_sketch 'fixed' needs 'out_size'",
    )


def test_a_missing_slot_on_a_path(refused):
    refused(
        "suite: x\nexperiments:\n  - name: e\n    workload: distort\n"
        "    metrics: [relative_error]\n    matrix:\n      ¶workload.sketch.out_size: [1, 2]",
        "workload.sketch: expected one gradient_sketch: a name, or a mapping with 'use';"
        " got a mapping",
    )


def test_null_on_a_path_has_no_parameters(refused, train):
    text = train("matrix: {¶workload.activation.rank: [1]}").replace(
        "epochs", "activation: ~, epochs"
    )
    refused(text, "workload.activation is ~ and has no parameters")


def test_more_than_fifty_axes_are_refused(refused, train):
    axes = ", ".join(f"workload.a{i}: [1]" for i in range(51))
    refused(train(f"matrix: ¶{{{axes}}}"), "matrix: more than 50 axes")


def test_the_size_is_told_before_anything_is_made(refused, train):
    hundred = f"[{', '.join(map(str, range(1, 102)))}]"
    matrix = ", ".join(f"workload.{p}: {hundred}" for p in ("epochs", "batch_size", "optimizer.lr"))
    refused(
        train(f"matrix: ¶{{{matrix}}}").replace("suite: demo", "suite: demo\nseeds: 1000"),
        "1,030,301 points with 1,000 seeds make 1,030,301,000 cells; at most 1,000,000 are allowed",
    )


@pytest.mark.parametrize("seeds", [1_000_001, 2**63 - 1])
def test_too_many_seeds(refused, train, seeds):
    refused(
        train().replace("suite: demo", f"suite: demo\nseeds: {seeds}").replace(": e\n", ": ¶e\n"),
        f"1 points with {seeds:,} seeds make {seeds:,} cells; at most 1,000,000 are allowed",
    )


def test_a_label_of_a_wrong_axis_is_not_missed_too(refused, train):
    refused(
        train("matrix: {¶epochs: {a: 1}}\nbaseline: a"),
        "'epochs' is no path; write workload.…, as in workload.epochs",
        only=["a"],
    )
