"""Seeds, `--only`, and the order of execution."""

import pytest

TEXT = """\
suite: demo
seeds: 2
presets:
  few: {only: [exact, "u*"], seeds: [5]}
  one: {only: exact}
experiments:
  - name: a
    workload: {use: train, task: digits, optimizer: adam}
    metrics: [accuracy]
    matrix:
      workload.activation: {exact: null, "u [2]": unbiased, zero: zero-gradient}
      workload.epochs: [1, 2]
    baseline: exact
  - name: b
    workload: {use: train, task: digits, optimizer: adam}
    metrics: [accuracy]
    matrix: {workload.epochs: [2, 3]}
"""


def shown(suite):
    return [f"{cell.experiment}/{cell.label}" for cell in suite.cells if cell.seed == 0]


def test_seeds_from_the_command_line(read):
    suite = read(TEXT, seeds=3)
    assert sorted({cell.seed for cell in suite.cells}) == [0, 1, 2]
    assert (suite.whole, suite.selection) == (False, "")


def test_seeds_from_the_command_line_come_before_a_preset(read):
    assert {cell.seed for cell in read(TEXT, preset="few").cells} == {5}
    assert {cell.seed for cell in read(TEXT, preset="few", seeds=1).cells} == {0}


@pytest.mark.parametrize("seeds", [0, -1])
def test_no_seeds(refused, seeds):
    refused(TEXT, f"--seeds {seeds}: expected how many, from 1 on", seeds=seeds)


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (["exact"], ["a/exact · 1", "a/exact · 2"]),
        (["u [2]"], ["a/u [2] · 1", "a/u [2] · 2"]),
        (["u*"], ["a/u [2] · 1", "a/u [2] · 2"]),
        (["2"], ["a/exact · 2", "a/u [2] · 2", "a/zero · 2", "b/2"]),
        (["a/2"], ["a/exact · 2", "a/u [2] · 2", "a/zero · 2"]),
        (["b"], ["b/2", "b/3"]),
        (["b/*"], ["b/2", "b/3"]),
        (["* · 1"], ["a/exact · 1", "a/u [2] · 1", "a/zero · 1"]),
        (["a/exact · 2", "b/3"], ["a/exact · 2", "b/3"]),
    ],
)
def test_only(read, only, expected):
    suite = read(TEXT, only=only)
    assert shown(suite) == expected
    assert (suite.whole, suite.selection) == (False, "")
    assert len(suite.experiments) == 2
    assert suite.experiments[0].axes["workload.epochs"] == ("1", "2")


def test_only_of_a_preset(read):
    suite = read(TEXT, preset="few")
    assert [cell.label for cell in suite.cells] == (
        ["exact · 1", "u [2] · 1", "exact · 2", "u [2] · 2"]
    )
    assert (suite.whole, suite.selection) == (True, "few")


def test_only_chooses_among_what_the_preset_chose(read, refused):
    assert shown(read(TEXT, preset="one", only=["1"])) == ["a/exact · 1"]
    refused(
        TEXT,
        "--only zero: no label matches 'zero'; (known: 1, 2, a, exact)",
        preset="one",
        only=["zero"],
    )


@pytest.mark.parametrize("glob", ["exat", "EXACT", "a/exat", ""])
def test_a_glob_that_matches_nothing(refused, glob):
    near = "did you mean 'exact'? " if glob in ("exat", "a/exat") else ""
    refused(
        TEXT,
        f"--only {glob}: no label matches '{glob}'; {near}"
        "(known: 1, 2, 3, a, b, exact, u [2], zero)",
        only=["exact", glob],
    )


def test_a_glob_of_any_preset_must_match(refused):
    refused(
        TEXT.replace("only: exact", "only: ¶exat"),
        "no label matches 'exat'; did you mean 'exact'? (known: 1, 2, 3, a, b, exact, u [2], zero)",
    )


def test_the_order_of_execution(read):
    cells = read(TEXT).cells
    assert [(cell.seed, cell.experiment, cell.label) for cell in cells] == [
        (0, "a", "exact · 1"),
        (0, "a", "u [2] · 1"),
        (0, "a", "zero · 1"),
        (0, "a", "exact · 2"),
        (0, "a", "u [2] · 2"),
        (0, "a", "zero · 2"),
        (0, "b", "2"),
        (0, "b", "3"),
        (1, "a", "zero · 1"),
        (1, "a", "u [2] · 1"),
        (1, "a", "exact · 1"),
        (1, "a", "zero · 2"),
        (1, "a", "u [2] · 2"),
        (1, "a", "exact · 2"),
        (1, "b", "3"),
        (1, "b", "2"),
    ]
