import dataclasses
import math
import sqlite3
import subprocess
import sys

import pytest

from sketchbench.records import Measurement, Record
from sketchbench.store import FILE, SCHEMA, Store, StoreError

SCHEMA_1 = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY, started TEXT NOT NULL, machine TEXT NOT NULL, environment TEXT NOT NULL
);
CREATE TABLE records (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, cell TEXT NOT NULL, session INTEGER NOT NULL,
    status TEXT NOT NULL, reason TEXT NOT NULL, started TEXT NOT NULL, seconds REAL NOT NULL,
    config TEXT NOT NULL, events TEXT NOT NULL, log TEXT NOT NULL
);
CREATE INDEX records_by_key ON records (key);
CREATE TABLE measurements (
    record INTEGER NOT NULL, metric TEXT NOT NULL, place TEXT NOT NULL, value REAL,
    unit TEXT NOT NULL, direction TEXT NOT NULL, margin REAL NOT NULL, relative INTEGER NOT NULL,
    session INTEGER NOT NULL, source TEXT NOT NULL, parts TEXT NOT NULL, at TEXT NOT NULL,
    samples TEXT NOT NULL, seconds TEXT NOT NULL, PRIMARY KEY (record, metric, place)
);
CREATE TABLE outlines (
    suite TEXT NOT NULL, selection TEXT NOT NULL, session INTEGER NOT NULL, outline TEXT NOT NULL,
    PRIMARY KEY (suite, selection)
);
CREATE TABLE placements (
    suite TEXT NOT NULL, selection TEXT NOT NULL, experiment TEXT NOT NULL, axes TEXT NOT NULL,
    seed INTEGER NOT NULL, position INTEGER NOT NULL, cell TEXT NOT NULL, key TEXT NOT NULL,
    PRIMARY KEY (suite, selection, experiment, axes, seed)
) WITHOUT ROWID;
PRAGMA journal_mode = WAL;
PRAGMA user_version = 1;
INSERT INTO sessions VALUES (1, '2026-01-01', 'machine', '{"torch":"2"}');
INSERT INTO records VALUES (1, 'k', 'cell-k', 1, 'ok', '', '2026-01-01T00:00:00+00:00', 1.5,
    '{"seed":0,"workload":{"use":"train","lr":0.001}}',
    '[{"name":"epoch","at":1,"what":"epoch","loss":0.5}]', 'text\n');
INSERT INTO measurements VALUES (1, 'accuracy', 'test', 0.30000000000000004, 'fraction', 'higher',
    0.005, 0, 1, 'abc', '{"top":0.5}', '[1.0,2.0]', '[0.25,0.30000000000000004]', '[0.5,1.5]');
INSERT INTO outlines VALUES ('s', '', 1, '{"experiments":[]}');
INSERT INTO placements VALUES ('s', '', 'e', '{"x":"a"}', 0, 0, 'cell-k', 'k');
"""
RECORD = Record(
    key="k",
    cell="cell-k",
    status="ok",
    reason="",
    started="2026-01-01T00:00:00+00:00",
    seconds=1.5,
    config={"seed": 0, "workload": {"use": "train", "lr": 1e-3}},
    measurements=[
        Measurement(
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
    ],
    events=[{"name": "epoch", "at": 1, "what": "epoch", "loss": 0.5}],
    log="text\n",
    session=1,
)
MISSING = Measurement("peak", "step", math.nan, "bytes", "lower", 0.01, True, why="no compiler")
NEW = dataclasses.replace(RECORD, key="new", measurements=[MISSING])


@pytest.fixture
def earlier(tmp_path):
    """A folder with results of schema 1, as an earlier version made them."""
    database = sqlite3.connect(tmp_path / FILE)
    database.executescript(SCHEMA_1)
    database.close()
    return tmp_path


def schema(folder):
    """Return the version of a file, and the columns of its tables."""
    database = sqlite3.connect(folder / FILE)
    (version,) = database.execute("PRAGMA user_version").fetchone()
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master ORDER BY name")]
    columns = {t: database.execute(f"PRAGMA table_info({t})").fetchall() for t in tables}
    database.close()
    return version, columns


def test_an_earlier_schema_is_upgraded_in_place_when_opened_for_writing(earlier, tmp_path):
    with Store.open(earlier, create=True) as store:
        assert store.newest() == {"k": RECORD}
        store.add(NEW)
    with Store.open(earlier) as store:
        assert store.newest()["k"] == RECORD
        assert store.newest()["new"].measurements[0].why == "no compiler"
        assert [p.cell for p in store.placements("s", "")] == ["cell-k"]
        assert store.outlines() == [("s", "", {"experiments": []})]
    with Store.open(tmp_path / "made", create=True):
        pass
    assert schema(earlier) == schema(tmp_path / "made")
    assert schema(earlier)[0] == SCHEMA == 2


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize("writable", [True, False])
def test_an_earlier_schema_is_read_as_it_is(earlier, monkeypatch, light, writable):
    if not writable:
        monkeypatch.setattr("sketchbench.database.os.access", lambda path, mode: False)
    before = (earlier / FILE).read_bytes()
    with Store.open(earlier) as store:
        found = store.newest(light=light)["k"]
        assert light or found == RECORD
        assert [m.why for m in found.measurements] == [""]
        assert store.sessions()[1].machine == "machine"
    assert (earlier / FILE).read_bytes() == before
    assert schema(earlier)[0] == 1


def test_an_upgrade_that_fails_leaves_the_earlier_schema_whole(earlier, monkeypatch):
    before = schema(earlier)
    broken = {1: ("ALTER TABLE measurements ADD COLUMN why TEXT", "ALTER TABLE nothing")}
    monkeypatch.setattr("sketchbench.database._UPGRADES", broken)
    with pytest.raises(StoreError):
        Store.open(earlier, create=True)
    assert schema(earlier) == before
    monkeypatch.undo()
    with Store.open(earlier, create=True) as store:
        assert store.newest() == {"k": RECORD}


def test_a_reader_goes_on_while_the_file_is_upgraded(earlier):
    with Store.open(earlier) as reader:
        assert reader.newest() == {"k": RECORD}
        with Store.open(earlier, create=True) as writer:
            writer.add(NEW)
        assert reader.newest()["new"].measurements[0].why == "no compiler"


def test_processes_that_upgrade_at_once_lose_nothing(earlier):
    code = (
        "import sys; from pathlib import Path; from sketchbench.store import Store\n"
        "with Store.open(Path(sys.argv[1]), create=True) as store: assert set(store.newest())\n"
    )
    openers = [subprocess.Popen([sys.executable, "-c", code, str(earlier)]) for _ in range(4)]
    assert [opener.wait() for opener in openers] == [0] * 4
    with Store.open(earlier) as store:
        assert store.newest() == {"k": RECORD}
    assert schema(earlier)[0] == SCHEMA
