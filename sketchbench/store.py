"""The store: one SQLite file of sessions, records and the plans they belong to.

A record is what one cell measured; it is written in one transaction, is never changed, and needs
no plugin to be read. A placement says under which suite, experiment and labels a cell appears.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sketchbench.records import Measurement, Placement, Record, Session

__all__ = ["FILE", "SCHEMA", "Measurement", "Placement", "Record", "Session", "Store", "StoreError"]

SCHEMA = 1
FILE = "results.sqlite"

_TABLES = """
CREATE TABLE sessions (
    id INTEGER PRIMARY KEY, started TEXT NOT NULL, machine TEXT NOT NULL, environment TEXT NOT NULL
);
CREATE TABLE records (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, cell TEXT NOT NULL, session INTEGER NOT NULL,
    status TEXT NOT NULL, reason TEXT NOT NULL, started TEXT NOT NULL, seconds REAL NOT NULL,
    config TEXT NOT NULL, events TEXT NOT NULL, log TEXT NOT NULL
);
CREATE INDEX records_by_key ON records (key);
CREATE INDEX records_by_cell ON records (cell);
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
    seed INTEGER NOT NULL, position INTEGER NOT NULL, cell TEXT NOT NULL,
    PRIMARY KEY (suite, selection, experiment, axes, seed)
) WITHOUT ROWID;
"""


class StoreError(Exception):
    """The results can't be read or written; the text says which file, why, and what to do."""


class Store:
    """An open results file; use it as a context manager."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._db = connection

    @classmethod
    def open(cls, folder: Path, *, create: bool = False) -> Self:
        """Open a results folder (or file); raise `StoreError` if it is missing, newer or broken."""
        path = folder if folder.suffix == ".sqlite" else folder / FILE
        if not create and not path.exists():
            raise StoreError(f"{path}: no results there; `sketchbench run` makes them")
        with _told(path):
            if create:
                path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(path, timeout=60, isolation_level=None)
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA:
                connection.close()
                raise StoreError(
                    f"{path}: written with schema {version}, this sketchbench knows up to "
                    f"{SCHEMA}; upgrade it, or name another folder with --results"
                )
            if version == 0:
                _create(connection, path, create)
            if create:
                _log_ahead(connection)
            return cls(connection, path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    # ------------------------------------------------------------ writing

    def begin_session(self, started: str, machine: str, environment: Mapping[str, Any]) -> int:
        """Store a session and return its number."""
        with self._transaction():
            return int(
                self._db.execute(
                    "INSERT INTO sessions (started, machine, environment) VALUES (?, ?, ?)",
                    (started, machine, _dump(environment)),
                ).lastrowid
                or 0
            )

    def place(
        self,
        suite: str,
        selection: str,
        session: int,
        outline: Mapping[str, Any],
        placements: Iterable[Placement],
        *,
        whole: bool,
    ) -> None:
        """Say which cells a suite's selection has; `whole` forgets those that it no longer has."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO outlines VALUES (?, ?, ?, ?)",
                (suite, selection, session, _dump(outline)),
            )
            if whole:
                self._db.execute(
                    "DELETE FROM placements WHERE suite = ? AND selection = ?", (suite, selection)
                )
            self._db.executemany(
                "INSERT OR REPLACE INTO placements VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    (suite, selection, p.experiment, _dump(p.axes), p.seed, position, p.cell)
                    for position, p in enumerate(placements)
                ),
            )

    def add(self, record: Record) -> None:
        """Store a record with its measurements, durably, in one transaction."""
        with self._transaction():
            row = self._db.execute(
                "INSERT INTO records (key, cell, session, status, reason, started, seconds, config,"
                " events, log) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    record.key,
                    record.cell,
                    record.session,
                    record.status,
                    record.reason,
                    record.started,
                    record.seconds,
                    _dump(record.config),
                    _dump(record.events),
                    record.log,
                ),
            ).lastrowid
            self._db.executemany(
                "INSERT INTO measurements VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (_row(row, m, record.session) for m in record.measurements),
            )

    # ------------------------------------------------------------ reading

    def newest(
        self, column: str = "key", names: Iterable[str] | None = None, *, light: bool = False
    ) -> dict[str, Record]:
        """Return the newest record of each `key` (or each `cell`), of all or of those named.

        `light` leaves out what is most of the bytes: configuration, events, log, parts, samples.
        """
        assert column in ("key", "cell")
        told = "'{}', '[]', ''" if light else "config, events, log"
        series = "'{}', '[]', '[]', '[]'" if light else "parts, at, samples, seconds"
        wanted = None if names is None else set(names)
        with _told(self.path):
            rows = self._db.execute(
                f"SELECT id, key, cell, session, status, reason, started, r.seconds, {told} FROM"
                f" records r JOIN (SELECT max(id) AS id FROM records GROUP BY {column}) USING (id)"
            )
            place = 1 if column == "key" else 2
            chosen = {row[0]: row for row in rows if wanted is None or row[place] in wanted}
            measured: dict[int, list[Measurement]] = {}
            for row in self._db.execute(
                "SELECT record, metric, place, value, unit, direction, margin, relative, session,"
                f" source, {series} FROM measurements ORDER BY rowid"
            ):
                if row[0] in chosen:
                    measured.setdefault(row[0], []).append(_measurement(row))
        records = (_record(row, measured.get(row[0], [])) for row in chosen.values())
        return {getattr(record, column): record for record in records}

    def durations(self) -> dict[str, float]:
        """Return {cell: seconds} of every cell's newest record."""
        with _told(self.path):
            rows = self._db.execute("SELECT cell, seconds FROM records ORDER BY id").fetchall()
        return dict(rows)

    def placements(self, suite: str, selection: str) -> list[Placement]:
        """Return the cells of a suite's selection, in the order of the suite."""
        with _told(self.path):
            rows = self._db.execute(
                "SELECT experiment, axes, seed, cell FROM placements WHERE suite = ? AND"
                " selection = ? ORDER BY position",
                (suite, selection),
            ).fetchall()
        return [Placement(row[0], json.loads(row[1]), row[2], row[3]) for row in rows]

    def outlines(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return (suite, selection, outline) of every stored plan, the latest run last."""
        with _told(self.path):
            rows = self._db.execute(
                "SELECT suite, selection, outline FROM outlines ORDER BY session"
            ).fetchall()
        return [(row[0], row[1], json.loads(row[2])) for row in rows]

    def sessions(self) -> dict[int, Session]:
        """Return every session by its number."""
        with _told(self.path):
            rows = self._db.execute("SELECT * FROM sessions").fetchall()
        return {row[0]: Session(row[0], row[1], row[2], json.loads(row[3])) for row in rows}

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _told(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def _create(connection: sqlite3.Connection, path: Path, create: bool) -> None:
    """Make the tables, unless another process has just made them."""
    connection.execute("BEGIN IMMEDIATE" if create else "BEGIN")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if version == 0 and create and not tables:
        for statement in (*_TABLES.split(";"), f"PRAGMA user_version = {SCHEMA}"):
            connection.execute(statement)
    connection.execute("COMMIT")
    if version == 0 and (tables or not create):
        connection.close()
        raise StoreError(f"{path}: not a results file of sketchbench; name another with --results")


def _log_ahead(connection: sqlite3.Connection) -> None:
    """Make every commit durable, and let readers go on beside a writer."""
    connection.execute("PRAGMA synchronous = FULL")
    for attempt in range(100):  # changing the mode does not wait for another process that does
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError:
            if attempt == 99:
                raise
            time.sleep(0.05)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn the errors of SQLite and of the file system into one line that says what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            raise StoreError(
                f"{path}: the disk is full; what was stored is kept, free some space and run again"
            ) from error
        raise StoreError(f"{path}: {error}; is the folder readable and writable?") from error
    except sqlite3.DatabaseError as error:
        raise StoreError(
            f"{path}: damaged ({error}); move it away, or name another folder with --results"
        ) from error
    except OSError as error:
        raise StoreError(
            f"{path}: {error.strerror or error}; name another with --results"
        ) from error


def _record(row: Sequence[Any], measured: list[Measurement]) -> Record:
    _, key, cell, session, status, reason, started, seconds, config, events, log = row
    return Record(
        key=key,
        cell=cell,
        session=session,
        status=status,
        reason=reason,
        started=started,
        seconds=seconds,
        config=_load(config),
        events=_load(events),
        log=log,
        measurements=measured,
    )


def _measurement(row: Sequence[Any]) -> Measurement:
    (
        _,
        metric,
        where,
        value,
        unit,
        direction,
        margin,
        relative,
        session,
        source,
        parts,
        at,
        samples,
        seconds,
    ) = row
    return Measurement(
        metric=metric,
        where=where,
        value=float("nan") if value is None else value,
        unit=unit,
        direction=direction,
        margin=margin,
        relative=bool(relative),
        session=session,
        source=source,
        parts=_load(parts),
        at=_load(at),
        samples=_load(samples),
        seconds=_load(seconds),
    )


def _load(text: str) -> Any:
    return {} if text == "{}" else [] if text == "[]" else json.loads(text)


def _row(record: int | None, m: Measurement, session: int) -> tuple[Any, ...]:
    described = (m.metric, m.where, m.value, m.unit, m.direction, m.margin, m.relative)
    series = (_dump(m.parts), _dump(m.at), _dump(m.samples), _dump(m.seconds))
    return (record, *described, m.session or session, m.source, *series)


def _dump(value: Any) -> str:
    if isinstance(value, Mapping):
        value = dict(value)
    return json.dumps(value, separators=(",", ":"))
