"""The store: one SQLite file of sessions, records and the plans they belong to.

A record is what one cell measured; it is written in one transaction, is never changed, and needs
no plugin to be read. A placement says under which suite, experiment and labels a cell appears.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sketchbench.database import FILE, SCHEMA, StoreError, connect, told
from sketchbench.records import Measurement, Placement, Record, Session

__all__ = ["FILE", "SCHEMA", "Measurement", "Placement", "Record", "Session", "Store", "StoreError"]


class Store:
    """An open results file; use it as a context manager."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self.path = path
        self._db = connection

    @classmethod
    def open(cls, folder: Path, *, create: bool = False) -> Self:
        """Open a results folder (or file); raise `StoreError` if it is missing, newer or broken."""
        return cls(*connect(folder, create=create))

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
        texts = "'{}', '[]', ''" if light else "config, events, log"
        series = "'{}', '[]', '[]', '[]'" if light else "parts, at, samples, seconds"
        newest = f"SELECT max(id) FROM records GROUP BY {column}"
        with told(self.path):
            if names is not None:
                self._db.execute("CREATE TEMP TABLE IF NOT EXISTS wanted (name TEXT PRIMARY KEY)")
                self._db.execute("DELETE FROM wanted")
                self._db.executemany(
                    "INSERT OR IGNORE INTO wanted VALUES (?)", ((name,) for name in names)
                )
                newest = (
                    f"SELECT max(id) FROM records JOIN wanted ON {column} = name GROUP BY {column}"
                )
            rows = self._db.execute(
                f"SELECT id, key, cell, session, status, reason, started, seconds, {texts}"
                f" FROM records WHERE id IN ({newest})"
            ).fetchall()
            measured: dict[int, list[Measurement]] = {}
            for row in self._db.execute(
                "SELECT record, metric, place, value, unit, direction, margin, relative, session,"
                f" source, {series} FROM measurements WHERE record IN ({newest}) ORDER BY rowid"
            ):
                measured.setdefault(row[0], []).append(_measurement(row))
        records = (_record(row, measured.get(row[0], [])) for row in rows)
        return {getattr(record, column): record for record in records}

    def durations(self) -> dict[str, float]:
        """Return {cell: seconds} of every cell's newest record."""
        with told(self.path):
            rows = self._db.execute("SELECT cell, seconds FROM records ORDER BY id").fetchall()
        return dict(rows)

    def placements(self, suite: str, selection: str) -> list[Placement]:
        """Return the cells of a suite's selection, in the order of the suite."""
        with told(self.path):
            rows = self._db.execute(
                "SELECT experiment, axes, seed, cell FROM placements WHERE suite = ? AND"
                " selection = ? ORDER BY position",
                (suite, selection),
            ).fetchall()
        return [Placement(row[0], json.loads(row[1]), row[2], row[3]) for row in rows]

    def outlines(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return (suite, selection, outline) of every stored plan, the latest run last."""
        with told(self.path):
            rows = self._db.execute(
                "SELECT suite, selection, outline FROM outlines ORDER BY session"
            ).fetchall()
        return [(row[0], row[1], json.loads(row[2])) for row in rows]

    def sessions(self) -> dict[int, Session]:
        """Return every session by its number."""
        with told(self.path):
            rows = self._db.execute("SELECT * FROM sessions").fetchall()
        return {row[0]: Session(row[0], row[1], row[2], json.loads(row[3])) for row in rows}

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with told(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


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
