"""The store: what goes in comes out, and no fault loses what is there."""

import dataclasses
import math
import os
import sqlite3
import subprocess
import sys

import pytest

from sketchbench.records import STATUSES, Measurement, Placement, Record
from sketchbench.store import FILE, SCHEMA, Store, StoreError

ACCURACY = Measurement(
    metric="accuracy",
    where="test",
    value=0.1 + 0.2,
    unit="fraction",
    direction="higher",
    margin=0.005,
    relative=False,
    parts={"top": 0.5},
    at=[1.0, 2.0],
    samples=[0.25, 0.1 + 0.2],
    seconds=[0.5, 1.5],
    session=1,
    source="abc",
)
MISSING = Measurement("peak", "step", math.nan, "bytes", "lower", 0.01, True, why="no compiler")


def record(key="k", status="ok", **fields) -> Record:
    made = Record(
        key=key,
        cell=f"cell-{key}",
        status=status,
        reason="",
        started="2026-01-01T00:00:00+00:00",
        seconds=1.5,
        config={"seed": 0, "workload": {"use": "train", "lr": 1e-3}},
        measurements=[ACCURACY],
        events=[{"name": "epoch", "at": 1, "what": "epoch", "loss": 0.5}],
        log="text\n",
        session=1,
    )
    return dataclasses.replace(made, **fields)


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path, create=True) as opened:
        opened.begin_session("2026-01-01", "machine", {"torch": "2"})
        yield opened


def test_a_record_comes_back_as_it_went_in(store):
    store.add(record())
    assert store.newest()["k"] == record()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308, 5e-324])
def test_every_float_survives(store, value):
    odd = dataclasses.replace(ACCURACY, value=value, samples=[value, value])
    store.add(record(measurements=[odd]))
    back = store.newest()["k"].measurements[0]
    assert [repr(v) for v in (back.value, *back.samples)] == [repr(value)] * 3


def test_the_newest_record_of_a_key_counts_and_the_older_stays(store):
    store.add(record(status="crash"))
    store.add(record(status="ok"))
    assert store.newest()["k"].status == "ok"
    rows = sqlite3.connect(store.path).execute("SELECT status FROM records").fetchall()
    assert rows == [("crash",), ("ok",)]


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_is_a_row(store, status):
    store.add(record(status=status, measurements=[]))
    assert store.newest(["k"])["k"].status == status


def test_only_the_records_asked_for_are_read(store):
    for key in "abc":
        store.add(record(key))
    assert set(store.newest(["a", "c", "zz"])) == {"a", "c"}


def test_a_light_reading_leaves_the_samples_out(store):
    store.add(record())
    light = store.newest(["k"], light=True)["k"]
    assert light.value("accuracy") == ACCURACY.value
    assert light.measurements[0].source == "abc"
    assert not light.measurements[0].samples


def test_a_missing_value_keeps_its_reason(store):
    store.add(record(measurements=[ACCURACY, MISSING]))
    for light in (False, True):
        kept, missing = store.newest(["k"], light=light)["k"].measurements
        assert math.isnan(missing.value)
        assert (kept.why, missing.why) == ("", "no compiler")


def test_plain_reading_prefers_the_test_split():
    both = [dataclasses.replace(ACCURACY, where="train", value=1.0), ACCURACY]
    assert record(measurements=both).value("accuracy") == ACCURACY.value
    assert record(measurements=both).value("accuracy", "train") == 1.0
    assert record().curve("accuracy") == [(1.0, 0.25, 0.5), (2.0, 0.1 + 0.2, 1.5)]
    assert record().value("loss") is None


def test_placements_keep_their_order_and_are_replaced_whole(store):
    placed = [
        Placement("e", {"x": label}, seed, f"{label}{seed}", "k")
        for label in "ba"
        for seed in (1, 0)
    ]
    outline = {"experiments": [{"name": "e", "axes": {"x": ["a", "b"]}}]}
    store.place("s", "", 1, outline, placed, whole=True)
    assert store.placements("s", "") == placed
    store.place("s", "", 1, outline, placed[:1], whole=False)
    assert len(store.placements("s", "")) == 4
    store.place("s", "", 1, outline, placed[:1], whole=True)
    assert store.placements("s", "") == placed[:1]
    assert store.outlines() == [("s", "", outline)]


@pytest.mark.parametrize(
    "experiment", [{"name": "e", "axes": {"x": ["new"]}}, {"name": "f", "axes": {"x": ["old"]}}]
)
def test_placements_that_the_suite_no_longer_has_are_forgotten(store, experiment):
    outline = {"experiments": [{"name": "e", "axes": {"x": ["old"]}}]}
    store.place("s", "", 1, outline, [Placement("e", {"x": "old"}, 0, "c", "k")], whole=True)
    store.place("s", "", 1, {"experiments": [experiment]}, [], whole=False)
    assert store.placements("s", "") == []


def test_an_add_that_fails_leaves_no_half_record(store):
    twice = [ACCURACY, ACCURACY]  # breaks the primary key of measurements
    with pytest.raises(StoreError):
        store.add(record(measurements=twice))
    assert store.newest() == {}
    store.add(record())
    assert set(store.newest()) == {"k"}


def test_writes_are_durable_and_logged_ahead(store):
    database = store._db
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)


def test_two_writers_lose_nothing(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[3])\n"
        "from pathlib import Path; from test_store import record, Store\n"
        "with Store.open(Path(sys.argv[1]), create=True) as store:\n"
        "    for i in range(40): store.add(record(f'{sys.argv[2]}{i}'))\n"
    )
    here = os.path.dirname(__file__)
    writers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name, here]) for name in "ab"
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    with Store.open(tmp_path) as store:
        assert len(store.newest()) == 80


def test_no_results_says_who_makes_them(tmp_path):
    with pytest.raises(StoreError, match="no results there; `sketchbench run` makes them"):
        Store.open(tmp_path / "nothing")


def test_a_newer_schema_is_refused_and_left_alone(tmp_path):
    with Store.open(tmp_path, create=True):
        pass
    database = sqlite3.connect(tmp_path / FILE)
    database.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    database.close()
    for create in (False, True):
        with pytest.raises(StoreError, match=f"schema {SCHEMA + 1}, this sketchbench knows up to"):
            Store.open(tmp_path, create=create)


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\0" * 500]
)
def test_a_corrupt_file_is_told_and_left_alone(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StoreError, match="damaged|not a results file"):
        Store.open(tmp_path, create=True)
    assert (tmp_path / FILE).read_bytes() == content


def test_a_page_overwritten_later_is_told(tmp_path):
    with Store.open(tmp_path, create=True) as store:
        for i in range(200):
            store.add(record(f"k{i}"))
    with open(tmp_path / FILE, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096 * 8)
    with pytest.raises(StoreError, match="damaged"), Store.open(tmp_path) as store:
        store.newest()


def test_a_foreign_database_is_refused(tmp_path):
    database = sqlite3.connect(tmp_path / FILE)
    database.execute("CREATE TABLE other (x)")
    database.commit()
    database.close()
    with pytest.raises(StoreError, match="not a results file"):
        Store.open(tmp_path, create=True)


def test_a_folder_that_is_a_file_is_told(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(StoreError, match="name another with --results"):
        Store.open(tmp_path / "results", create=True)


def test_a_full_disk_keeps_what_is_stored(tmp_path):
    with Store.open(tmp_path, create=True) as store:
        store.add(record("first"))
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own "disk is full"
        with pytest.raises(StoreError, match="the disk is full; what was stored is kept"):
            store.add(record("second", log="x" * 100_000))
        assert set(store.newest()) == {"first"}


def test_results_on_a_medium_that_cannot_be_written_are_read(tmp_path, monkeypatch):
    with Store.open(tmp_path, create=True) as store:
        store.add(record())
    monkeypatch.setattr("sketchbench.database.os.access", lambda path, mode: False)
    with Store.open(tmp_path) as store:
        assert store.newest()["k"].status == "ok"
        assert [file.name for file in tmp_path.iterdir()] == [FILE]
        with pytest.raises(StoreError, match="readonly"):
            store.add(record())


def test_a_sound_record_outlives_a_later_failure_that_is_told(store):
    for status in ("ok", "crash", "timeout"):
        store.add(record(status=status))
    found = store.newest()["k"]
    assert (found.status, found.later) == ("ok", "timeout")
    store.add(record())
    assert (store.newest()["k"].status, store.newest()["k"].later) == ("ok", "")
    assert set(store.durations()) == {"cell-k"}
