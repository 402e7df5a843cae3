"""Whatever the text, a suite is read or refused with places; nothing else comes out."""

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sketchbench.suite import Suite, SuiteError

TEXT = """\
suite: fuzz
title: "A suite"
seeds: [0, 2]
timeout: 60
presets:
  quick: {seeds: 1, only: [exact, "u*"], workload.epochs: 1}
  slow:
    workload.task.train_limit: 5
experiments:
  - name: a
    workload: &w {use: train, task: digits, optimizer: {use: adam, lr: 1e-3}, epochs: 3}
    metrics: [accuracy, accuracy@train, step_time, {use: time_to_target, target: 0.9}]
    matrix:
      workload.activation:
        exact: null
        unbiased: {use: unbiased, rank: 2}
      workload.optimizer.lr: [1e-3, 0x1]
    baseline: exact
    control: unbiased
  - name: b
    workload: *w
    metrics:
      - {use: accuracy, at: train}
    matrix:
      - workload.model: [{use: mlp, hidden: [1, 2]}, mlp]
      - {workload.note: {x: y, null: 'z'}}
claims:
  - {id: c, check: "accuracy[u] > 0"}
"""
LINES = TEXT.splitlines(keepends=True)
PIECES = [
    *(": ", "- ", "? ", "[", "]", "{", "}", ",", "\n", "\n  ", "  ", "\t", "#", "&w ", "*w", "!x "),
    *("!!str ", "|\n", ">\n", "'", '"', "%", "@", "`", "<<: ", "---\n", "...\n", "\0", "\ufeff"),
    *("\r", "\\", "null", "~", "true", "-1", "0", "1e999", ".nan", "9" * 400, "0x" + "f" * 400),
    *("use", "workload", ".", "workload.optimizer", "workload.activation.rank", "exact", "e\u0301"),
    *("adam", "unbiased", "train", "accuracy", "@", "time_to_target", "\U0001f600", "\u2028"),
    *('"\\ud800"', '"\\U00110000"', "[" * 60, "{a: " * 60, "x." * 60, "broken", "wrapped"),
]
EDITS = st.tuples(
    st.sampled_from(["insert", "replace", "delete", "line"]),
    st.integers(0, len(TEXT)),
    st.integers(0, 30),
    st.sampled_from(PIECES),
    st.integers(0, len(LINES) - 1),
)


def edited(edits):
    text = TEXT
    for what, start, length, piece, line in edits:
        start = min(start, len(text))
        if what == "insert":
            text = text[:start] + piece + text[start:]
        elif what == "replace":
            text = text[:start] + piece + text[start + length :]
        elif what == "delete":
            text = text[:start] + text[start + length :]
        else:
            text = text[:start] + "\n" + LINES[line] + text[start:]
    return text


def read(stock, content, **options):
    """Return the suite, or why it can't be read."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "s.yaml"
        path.write_bytes(content)
        try:
            return Suite.read(path, stock, **options)
        except SuiteError as error:
            return error


def check(stock, content, **options):
    read_or_refused = read(stock, content, **options)
    if isinstance(read_or_refused, Suite):
        assert read_or_refused.outline()["experiments"]
        assert all(len(cell.id) == 16 and cell.request() for cell in read_or_refused.cells)
        return
    mistakes = read_or_refused.mistakes
    assert len(str(read_or_refused).splitlines()) == len(set(mistakes)) == len(mistakes) > 0
    for mistake in mistakes:
        assert mistake.file.endswith("s.yaml") or mistake.file.startswith("--")
        assert (mistake.line == 0) == (mistake.column == 0)
        assert mistake.line <= content.count(b"\n") + content.count(b"\r") + 3


def test_the_text_that_is_edited_is_good(stock):
    assert len(read(stock, TEXT.encode()).cells) == 16
    assert len(read(stock, TEXT.encode(), preset="quick", only=["exact*"]).cells) == 2


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=st.lists(EDITS, min_size=1, max_size=4), preset=st.sampled_from([None, "quick"]))
def test_edited_text(stock, edits, preset):
    check(stock, edited(edits).encode("utf-8", "surrogatepass"), preset=preset)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=60))
def test_any_bytes(stock, content):
    check(stock, content)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(
        [
            "workload",
            "workload.epochs",
            "workload.activation",
            "workload.task",
            "workload.model.hidden",
            "workload.optimizer.lr",
            "workload.note",
            "workload.activation.rank",
        ]
    ),
    value=st.one_of(
        st.text(max_size=8), st.lists(st.sampled_from(PIECES), max_size=3).map("".join)
    ),
    only=st.lists(st.text(alphabet="exactu*?[]!-/ab", max_size=6), max_size=2),
    preset=st.sampled_from([None, "quick", "slow", "none"]),
    seeds=st.sampled_from([None, -1, 0, 1, 3, 10**30]),
)
def test_any_options(stock, path, value, only, preset, seeds):
    sets = [f"{path}={value}"]
    check(stock, TEXT.encode(), sets=sets, only=only, preset=preset, seeds=seeds)
