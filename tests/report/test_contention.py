import math

import pytest

from sketchbench.records import Record
from sketchbench.report.groups import _busy


class Reached:
    """A derived time: ten times the accuracy, where it is high enough."""

    scope = "cell"
    needs = ("accuracy",)

    def derive(self, cell, baseline=None, control=None):
        return 10 * cell.value("accuracy") if cell.value("accuracy") > 0.8 else None


@pytest.fixture
def timed(cell):
    """Make a cell whose times were taken on a machine that did `what` besides."""

    def make(what="", status="ok", accuracy=0.9, **values):
        values = {"accuracy": accuracy, "step_time": 0.002, "peak_bytes": 4.0} | values
        contention = {"name": "contention", "at": None, "busy": bool(what), "pressure": None}
        said = f"busy: {what}" if what else "quiet"
        epoch = {"name": "epoch", "at": 1.0, "what": "epoch", "busy": True}
        return cell(values, status=status, events=[epoch, contention | {"what": said}])

    return make


METRICS = ["accuracy", "step_time", "peak_bytes", "time_to_target"]


def marked(table):
    return [[entry.busy for entry in row.entries] for row in table.rows]


def test_times_taken_on_a_busy_machine_are_marked_and_noted(bench, timed):
    methods = {
        "exact": [timed(), timed("others took 12 % of the CPU"), timed("a burst")],
        "a": [timed()] * 3,
        "b": [timed("a burst")] * 3,
    }
    bench.fill(methods, METRICS, baseline="exact")
    table = bench.table(lambda config: Reached())
    clocked = [False, True, False, True]
    assert marked(table) == [clocked, [False] * 4, clocked]
    assert table.notes == [
        "step_time, time_to_target: measured while the machine was busy: exact (2 of 3 seeds: "
        "others took 12 % of the CPU), b (3 of 3 seeds: a burst)"
    ]


def test_the_sign_follows_the_mean_and_is_explained(bench, timed):
    cells = [timed("a burst", step_time=value) for value in (0.001, 0.003)]
    bench.fill({"a": cells, "b": [timed(step_time=0.004)] * 2}, ["step_time", "accuracy"])
    lines = bench.text().splitlines()
    assert [line.rstrip() for line in lines[4:7]] == [
        "method    n  step_time [ms] ↓      accuracy ↑",
        "a       2/2            2 ± 13 ! *  0.9000 ± 0",
        "b       2/2             4 ± 0      0.9000 ± 0",
    ]
    assert any(line.startswith("  !: ") for line in lines)


def test_a_quiet_machine_needs_no_sign(bench, timed):
    bench.fill({"a": [timed()] * 2}, METRICS)
    text = bench.text(lambda config: Reached())
    assert "!" not in text
    assert "busy" not in text


def test_records_without_the_event_are_not_marked(bench, cell):
    bench.fill({"a": [{"step_time": 1.0}]}, ["step_time"])
    assert marked(bench.table()) == [[False]]


def test_only_cells_in_the_mean_count(bench, timed):
    cells = [
        timed("a burst", status="error"),
        timed("a burst", accuracy=0.1, step_time=math.nan),
        timed(),
    ]
    bench.fill({"a": cells}, METRICS)
    table = bench.table(lambda config: Reached())
    assert marked(table) == [[False] * 4]
    assert not any("busy" in note for note in table.notes)


@pytest.mark.parametrize("event", [{}, {"what": None}, {"what": ""}, {"what": "busy: "}])
def test_a_busy_machine_without_a_cause_is_told_all_the_same(bench, cell, event):
    busy = {"name": "contention", "at": None, "busy": True} | event
    bench.fill({"a": [cell({"step_time": 1.0}, events=[busy])]}, ["step_time"])
    assert bench.table().notes == [
        "step_time: measured while the machine was busy: a (1 of 1 seed: cause unknown)"
    ]


def test_a_cause_that_would_break_the_line_is_defused(bench, timed):
    bench.fill({"a": [timed("one\ntwo\x1b[31m")]}, ["step_time"])
    assert bench.table().notes == [
        "step_time: measured while the machine was busy: a (1 of 1 seed: one two�[31m)"
    ]


@pytest.mark.parametrize(("session", "told"), [(1, "something"), (2, "")])
def test_contention_belongs_to_the_session_that_was_timed(session, told):
    event = {"name": "contention", "busy": True, "what": "busy: something", "session": session}
    record = Record("k", "c", "ok", "", "", 0.0, {}, events=[event], session=2)
    assert _busy(record, frozenset({1})) == told
