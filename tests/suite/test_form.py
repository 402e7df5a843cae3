"""The keys of a suite file: what each must be, and all mistakes at once."""

from pathlib import Path

import pytest

from sketchbench.suite import Suite, SuiteError

KEYS = "suite, title, seeds, timeout, presets, experiments, claims"


def test_the_smallest_suite(read, train):
    suite = read(train())
    assert (suite.name, suite.title, suite.selection, suite.whole) == ("demo", "", "", True)
    assert (suite.timeout, suite.claims, suite.path) == (None, (), Path("s.yaml"))
    (cell,) = suite.cells
    assert (cell.suite, cell.experiment, dict(cell.axes)) == ("demo", "e", {})
    assert (cell.seed, cell.device, cell.label) == (0, "cpu", "e")
    assert cell.workload.epochs == 3
    assert [wanted.label() for wanted in cell.metrics] == ["accuracy"]


def test_every_key(read, train):
    text = train(
        "title: An experiment",
        "title: A suite — one\ntimeout: 1.5\nseeds: [3, 1]\n"
        "claims:\n  - {id: a, says: it works, limit: 1e-3}\n",
    )
    suite = read(text, device="cuda")
    assert (suite.title, suite.timeout) == ("A suite — one", 1.5)
    assert suite.claims == ({"id": "a", "says": "it works", "limit": 1e-3},)
    assert suite.experiments[0].title == "An experiment"
    assert [(cell.seed, cell.device) for cell in suite.cells] == [(3, "cuda"), (1, "cuda")]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\n", "\ufeff"])
def test_an_empty_file(refused, text):
    refused(text, f"s.yaml:1:1: no suite; expected {KEYS}")


@pytest.mark.parametrize(
    ("text", "got"),
    [("¶[a, b]", "a list"), ("¶hello", "hello"), ("¶- a", "a list"), ("¶3", "3"), ("¶~", "~")],
)
def test_a_file_that_is_no_mapping(refused, text, got):
    refused(text, f"expected a mapping with {KEYS}; got {got}")


def test_a_missing_file_a_directory_and_no_name(tmp_path, stock):
    for path, reason in [
        (tmp_path / "none.yaml", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (Path("a\0b"), "embedded null byte"),
    ]:
        with pytest.raises(SuiteError) as caught:
            Suite.read(path, stock)
        shown = str(path).replace("\0", "\\x00")
        assert str(caught.value) == f"{shown}: can't be read: {reason}"


def test_binary_and_other_encodings(read):
    for content, mistake in [
        (b"\x89PNG\r\n\x1a\n", "s.yaml:1:1: not UTF-8 text: byte 0x89"),
        ("suite: é\n# ü".encode("latin-1"), "s.yaml:1:8: not UTF-8 text: byte 0xe9"),
        ("a: é\nb: ".encode() + b"\xff", "s.yaml:2:4: not UTF-8 text: byte 0xff"),
        ("suite: x".encode("utf-16"), "s.yaml:1:1: not UTF-8 text: byte 0xff"),
        (b"a: \0", "s.yaml:1:4: character U+0000 is not allowed in YAML"),
    ]:
        with pytest.raises(SuiteError) as caught:
            read(content)
        assert str(caught.value) == mistake


def test_a_file_too_large_to_be_a_suite(read):
    with pytest.raises(SuiteError, match=r"s\.yaml: larger than 16 MiB; is it a suite\?"):
        read(b"#" * (16 * 2**20 + 1))


def test_crlf_and_a_byte_order_mark_are_fine(read, train):
    assert len(read(("\ufeff" + train()).replace("\n", "\r\n")).cells) == 1


def test_unknown_and_missing_keys_of_a_suite(refused):
    refused(
        "¶suite: x\n¶titel: x",
        "a suite needs 'experiments'",
        "a suite has no key 'titel'; did you mean 'title'? (known: claims, experiments, presets,"
        " seeds, suite, timeout, title)",
    )


def test_unknown_and_missing_keys_of_an_experiment(refused):
    refused(
        "suite: x\nexperiments:\n  - ¶¶name: e\n    ¶metric: [accuracy]",
        "an experiment needs 'workload'",
        "an experiment needs 'metrics'",
        "an experiment has no key 'metric'; did you mean 'metrics'? (known: baseline, control,"
        " matrix, metrics, name, sort, title, tune, workload)",
    )


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("suite: ¶3", "suite: expected text (numbers in quotes); got 3"),
        ("suite:¶ ", "suite: expected text (numbers in quotes); got nothing"),
        ("suite: ¶[x]", "suite: expected text (numbers in quotes); got a list"),
        (
            "suite: ¶two words",
            "suite: expected a name of letters, digits and dashes (my-suite); got two words",
        ),
        ("suite: ¶''", "suite: expected one line of text; got nothing"),
        ("title: ¶true", "title: expected text (numbers in quotes); got true"),
        ('title: ¶"a\\nb"', "title: expected one line of text; got a b"),
        ("timeout: ¶0", "timeout: expected seconds, more than 0; got 0"),
        ("timeout: ¶-1.5", "timeout: expected seconds, more than 0; got -1.5"),
        ("timeout: ¶true", "timeout: expected seconds, more than 0; got true"),
        ("timeout: ¶10:30", "timeout: expected seconds, more than 0; got 10:30"),
        ("timeout: ¶.inf", '.inf is not a finite number; a quoted ".inf" is text'),
        (
            "seeds: ¶0",
            "seeds: expected how many (from 1 on), or a list of seeds; got 0",
        ),
        (
            "seeds: ¶1.5",
            "seeds: expected how many (from 1 on), or a list of seeds; got 1.5",
        ),
        (
            "seeds: ¶true",
            "seeds: expected how many (from 1 on), or a list of seeds; got true",
        ),
        ("seeds:¶ ", "seeds: expected how many (from 1 on), or a list of seeds; got nothing"),
        ("seeds: ¶[]", "seeds: expected how many (from 1 on), or a list of seeds; got a list"),
        ("seeds: [0, ¶-1]", "seeds: expected a whole number from 0 on; got -1"),
        ("seeds: [0, ¶x]", "seeds: expected a whole number from 0 on; got x"),
        ("seeds: [7, 0, ¶7]", "seeds: 7 is there already"),
        ("presets: ¶[quick]", "presets: expected a mapping of names to presets; got a list"),
        (
            "presets: {quick: ¶3}",
            "presets.quick: expected a mapping of seeds, only and workload.… paths; got 3",
        ),
        (
            "presets: {quick: {¶seed: 3}}",
            "presets.quick: no key 'seed'; did you mean 'seeds'? (known: only, seeds, workload.…)",
        ),
        (
            "presets: {quick: {seeds: ¶no}}",
            "seeds: expected how many (from 1 on), or a list of seeds; got no",
        ),
        ("presets: {quick: {only: [¶[x]]}}", "only: expected a label; got a list"),
        ("claims: ¶x", "claims: expected a list; got x"),
        ("claims: [{}, ¶x]", "claims: expected a mapping; got x"),
    ],
)
def test_a_value_of_the_wrong_type(refused, train, line, mistake):
    text = train(suite=f"{line}\n")
    refused(text.replace("suite: demo\n", "") if line.startswith("suite") else text, mistake)


@pytest.mark.parametrize(
    ("experiments", "mistake"),
    [
        ("¶x", "experiments: expected a list with at least one entry; got x"),
        ("¶[]", "experiments: expected a list with at least one entry; got a list"),
        ("¶{name: e}", "experiments: expected a list with at least one entry; got a mapping"),
        ("[¶x]", "experiments: expected a mapping with name; got x"),
    ],
)
def test_experiments_of_the_wrong_type(refused, experiments, mistake):
    refused(f"suite: x\nexperiments: {experiments}", mistake)


@pytest.mark.parametrize(
    ("key", "value", "mistake"),
    [
        ("name", "¶3", "name: expected text (numbers in quotes); got 3"),
        ("name", "¶''", "name: expected one line of text; got nothing"),
        ("metrics", "¶accuracy", "metrics: expected a list with at least one entry; got accuracy"),
        ("metrics", "¶[]", "metrics: expected a list with at least one entry; got a list"),
        ("baseline", "¶[a]", "baseline: expected a label of the matrix; got a list"),
        (
            "matrix",
            "¶3",
            "matrix: expected a mapping of paths to values, or a list of such mappings; got 3",
        ),
        ("matrix", "¶[]", "matrix: expected at least one mapping of paths to values"),
        ("matrix", "[¶x]", "matrix: expected a mapping of paths to values; got x"),
        (
            "workload",
            "¶3",
            "workload: expected one workload: a name, or a mapping with 'use'; got 3",
        ),
        (
            "workload",
            "¶{task: digits}",
            "workload: expected one workload: a name, or a mapping with 'use'; got a mapping",
        ),
    ],
)
def test_keys_of_an_experiment_of_the_wrong_type(refused, key, value, mistake):
    keys = {"name": "e", "workload": "fit", "metrics": "[accuracy]"} | {key: value}
    pairs = ", ".join(f"{k}: {v}" for k, v in keys.items())
    refused(f"suite: x\nexperiments: [{{{pairs}}}]", mistake)


def test_two_experiments_of_one_name(refused, train):
    again = train().split("experiments:\n")[1].replace("name: e", "name: ¶e")
    refused(train() + again, "name: 'e' is the experiment of line 3 already")


def test_all_mistakes_of_a_file_come_at_once_and_in_order(refused):
    refused(
        "suite: x\nseeds: ¶0\nexperiments:\n"
        "  - name: e\n    workload: {use: train, task: ¶digitz, optimizer: adam, epochs: ¶x}\n"
        "    metrics: [¶acuracy]\n"
        "    matrix: {workload.activation: {a: {use: unbiased, rank: ¶0}}}\n"
        "    baseline: ¶b\n"
        "  - name: f\n    workload: ¶{use: distort, ¶sketches: fixed}\n    metrics: [¶accuracy]\n",
        "seeds: expected how many (from 1 on), or a list of seeds; got 0",
        "workload.task: unknown task 'digitz'; did you mean 'digits'? (known: digits)",
        "workload.epochs: input should be a valid integer; got x",
        "metrics: unknown metric 'acuracy'; did you mean 'accuracy'? (known: accuracy,"
        " relative_error, step_time, time_to_target)",
        "workload.activation.rank: input should be greater than or equal to 1; got 0",
        "baseline: the matrix has no label 'b'; (known: a)",
        "workload: workload 'distort' needs 'sketch'",
        "workload.sketches: workload 'distort' has no parameter 'sketches'; did you mean 'sketch'?"
        " (known: epochs, sketch)",
        "metrics: 'accuracy' judges Predictions; workload 'distort' delivers sketched"
        " (Approximation)",
    )


def test_the_error_carries_its_mistakes(read):
    with pytest.raises(SuiteError) as caught:
        read("suite: [x]\nexperiments: x")
    one, two = caught.value.mistakes
    assert (one.file, one.line, one.column) == ("s.yaml", 1, 8)
    assert two.text == "experiments: expected a list with at least one entry; got x"


def test_what_a_terminal_would_obey_is_spelled_out(refused):
    refused(
        'suite: x\nexperiments: ¶"\\e[31m\\r\\n\\u202ex"',
        "experiments: expected a list with at least one entry; got \\x1b[31m \\u202ex",
    )
