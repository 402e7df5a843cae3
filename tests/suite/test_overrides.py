"""Presets and `--set`: what they change, in which order, and what they may not."""

import pytest

TWO = """\
suite: two
presets:
  quick: {seeds: 2, workload.epochs: 7}
  small: {workload.task.train_limit: 100, workload.task.augment: true}
experiments:
  - name: a
    workload: {use: train, task: digits, optimizer: adam, epochs: 3}
    metrics: [accuracy]
    matrix:
      workload.activation: {exact: null, u: {use: unbiased, rank: 3}}
  - name: b
    workload: {use: distort, sketch: {use: fixed, out_size: 4}}
    metrics: [relative_error]
"""
TRAIN = "(known: activation, batch_size, epochs, model, note, optimizer, task)"


def values(suite, name):
    return [getattr(cell.workload, name, None) for cell in suite.cells]


def test_a_preset_changes_every_experiment_that_has_its_path(read):
    suite = read(TWO, preset="quick")
    assert values(suite, "epochs") == [7] * 6
    assert {cell.seed for cell in suite.cells} == {0, 1}
    assert (suite.selection, suite.whole) == ("quick", True)


def test_a_preset_leaves_the_others_as_they_are(read):
    suite = read(TWO, preset="small")
    a, _, b = suite.cells
    assert (a.workload.task.train_limit, a.workload.task.augment) == (100, True)
    assert b.workload == read(TWO).cells[2].workload


def test_set_comes_after_the_preset_and_parses_yaml(read):
    suite = read(TWO, preset="quick", sets=["workload.epochs=0x10"])
    assert values(suite, "epochs") == [16] * 6
    assert suite.selection == "quick, workload.epochs=0x10"


@pytest.mark.parametrize(
    ("item", "name", "value"),
    [
        ("workload.note=a=b", "note", "a=b"),
        ("workload.note='3'", "note", "3"),
        ("workload.note=no", "note", "no"),
        (" workload.note=x ", "note", "x"),
        ("workload.optimizer.lr=1e-2", "optimizer", 0.01),
        ("workload.optimizer={use: sgd, lr: 1e-2}", "optimizer", 0.01),
        ("workload.model.hidden=[9, 9]", "model", (9, 9)),
    ],
)
def test_set(read, train, item, name, value):
    suite = read(train(), sets=[item])
    found = getattr(suite.cells[0].workload, name)
    found = getattr(found, "lr", getattr(found, "hidden", found))
    assert found == value
    assert suite.selection == item.strip()


def test_an_empty_value_is_null(read, train):
    assert read(train(), sets=["workload.activation="]).cells[0].workload.activation is None


def test_sets_are_applied_in_their_order(read, train):
    sets = ["workload.optimizer=sgd", "workload.optimizer.momentum=0.5", "workload.epochs=1"]
    suite = read(train(), sets=[*sets, "workload.epochs=2"])
    assert (suite.cells[0].workload.optimizer.momentum, suite.cells[0].workload.epochs) == (0.5, 2)
    assert suite.selection == (
        "workload.optimizer=sgd, workload.optimizer.momentum=0.5, workload.epochs=2"
    )


def test_a_path_below_an_axis_changes_the_points_that_have_it(read):
    suite = read(TWO, sets=["workload.activation.rank=9"])
    assert [a and a.rank for a in values(suite, "activation")] == [None, 9, None]


def test_a_path_that_the_file_does_not_write_is_there_by_its_field(read, train):
    suite = read(train(), sets=["workload.model.hidden=[1]", "workload.batch_size=2"])
    assert suite.cells[0].workload.model.hidden == (1,)
    assert suite.cells[0].workload.batch_size == 2


def test_a_default_keeps_what_is_not_set(read, train):
    text = train().replace("optimizer: adam", "optimizer: {use: sgd, momentum: 0.5}")
    optimizer = read(text, sets=["workload.optimizer.lr=1"]).cells[0].workload.optimizer
    assert (optimizer.lr, optimizer.momentum) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("item", "mistake"),
    [
        ("workload.epochs", "--set workload.epochs: expected PATH=VALUE, as in workload.epochs=1"),
        ("", "--set : expected PATH=VALUE, as in workload.epochs=1"),
        ("=3", "--set =3:1:1: '' is no path; write workload.…, as in workload.epochs"),
        (
            "seeds=3",
            "--set seeds=3:1:1: 'seeds' is no path; write workload.…, as in workload.epochs",
        ),
        (
            "workload.epochs=x",
            "--set workload.epochs=x:1:17: workload.epochs: input should be a valid integer; got x",
        ),
        (
            "workload.epochs=",
            "--set workload.epochs=:1:17: workload.epochs: input should be a valid integer;"
            " got null",
        ),
        (
            "workload.optimizer={use: sgd, lr: x}",
            "--set workload.optimizer={use: sgd, lr: x}:1:35: workload.optimizer.lr: input should"
            " be a valid number; got x",
        ),
        (
            "workload.epoch=2",
            "--set workload.epoch=2:1:1: workload.epoch: workload 'train' has no parameter 'epoch';"
            f" did you mean 'epochs'? {TRAIN}",
        ),
        (
            "workload.task.limit=2",
            "--set workload.task.limit=2:1:1: workload.task.limit: task 'digits' has no parameter"
            " 'limit'; did you mean 'train_limit'? (known: augment, train_limit)",
        ),
        (
            "workload.epochs.x=2",
            "--set workload.epochs.x=2:1:1: workload.epochs.x: workload.epochs has no parameters",
        ),
        (
            "workload.activation.rank=2",
            "--set workload.activation.rank=2:1:1: workload.activation.rank: workload.activation"
            " has no parameters",
        ),
    ],
)
def test_a_mistake_in_a_set(refused, train, item, mistake):
    refused(train(), mistake, sets=[item])


def test_the_syntax_of_a_set(refused, train):
    refused(
        train(),
        "--set workload.note= - 1:1:15: not YAML: a tab; indent with spaces",
        sets=["workload.note=\t- 1"],
    )
    refused(
        train(),
        "--set workload.note=*x:1:15: no anchor '&x' before this alias",
        sets=["workload.note=*x"],
    )


def test_the_file_comes_before_the_command_line(refused, train):
    refused(
        train().replace("digits", "¶digitz"),
        "workload.task: unknown task 'digitz'; did you mean 'digits'? (known: digits)",
        "--set workload.epoch=1:1:1: workload.epoch: workload 'train' has no parameter 'epoch';"
        f" did you mean 'epochs'? {TRAIN}",
        sets=["workload.epoch=1"],
    )


@pytest.mark.parametrize("path", ["workload.activation", "workload.activation.inner"])
def test_an_axis_can_not_be_overridden(refused, train, path):
    axis = "workload.activation.inner" if "inner" in path else path
    text = train(f"matrix: {{{axis}: [null, unbiased]}}").replace(
        "epochs", "activation: wrapped, epochs"
    )
    for item in {path, "workload.activation"}:
        refused(
            text,
            f"--set {item}=zero-gradient:1:1: {item}: the matrix of 'e' varies {axis};"
            " choose among its labels with --only",
            sets=[f"{item}=zero-gradient"],
        )


def test_an_axis_in_a_preset(refused, train):
    refused(
        train("matrix: {workload.epochs: [1, 2]}", "presets:\n  quick:\n    ¶workload.epochs: 1\n"),
        "workload.epochs: the matrix of 'e' varies workload.epochs;"
        " choose among its labels with --only",
    )


def test_mistakes_of_a_preset_are_in_the_preset(refused, train):
    presets = (
        "presets:\n  quick: {workload.epochs: ¶x}\n"
        "  slow:\n    ¶workload.epoch: 3\n    workload.optimizer: {use: adam, ¶rate: 1}\n"
    )
    refused(
        train(suite=presets),
        "workload.epochs: input should be a valid integer; got x",
        "workload.epoch: workload 'train' has no parameter 'epoch';"
        f" did you mean 'epochs'? {TRAIN}",
        "workload.optimizer.rate: optimizer 'adam' has no parameter 'rate'; (known: lr)",
        preset="quick",
    )
    refused(
        train(suite=presets),
        "workload.epochs: input should be a valid integer; got x",
        "workload.epoch: workload 'train' has no parameter 'epoch';"
        f" did you mean 'epochs'? {TRAIN}",
        "workload.optimizer.rate: optimizer 'adam' has no parameter 'rate'; (known: lr)",
    )


def test_an_unknown_name_is_told_but_not_the_paths_below_it(refused, train):
    presets = "presets: {quick: {workload.optimizer.lr: 1, workload.epochs: 1}}\n"
    refused(
        train(suite=presets).replace("adam", "¶adm"),
        "workload.optimizer: unknown optimizer 'adm'; did you mean 'adam'? (known: adam, sgd)",
    )
    refused(
        train(suite=presets).replace("use: train", "use: ¶trayn"),
        "workload: unknown workload 'trayn'; did you mean 'train'? (known: distort, fit, train)",
    )


def test_an_unknown_preset(refused):
    refused(
        TWO,
        "--preset quik: two has no such preset; did you mean 'quick'? (known: quick, small)",
        preset="quik",
    )
