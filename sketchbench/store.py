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

_DESCRIBED = "metric, place, value, unit, direction, margin, relative, session, source"
_SERIES = "parts, at, samples, seconds"


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
            else:
                self._forget_unknown(suite, selection, outline)
            self._db.executemany(
                "INSERT OR REPLACE INTO placements VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (suite, selection, p.experiment, _dump(p.axes), p.seed, position, p.cell, p.key)
                    for position, p in enumerate(placements)
                ),
            )

    def _forget_unknown(self, suite: str, selection: str, outline: Mapping[str, Any]) -> None:
        """Delete placements of experiments, axes and labels that the suite no longer has."""
        axes = {e["name"]: e.get("axes") or {} for e in outline.get("experiments", ())}
        found = self._db.execute(
            "SELECT DISTINCT experiment, axes FROM placements WHERE suite = ? AND selection = ?",
            (suite, selection),
        ).fetchall()
        for experiment, text in found:
            known = axes.get(experiment)
            if known is not None and all(
                label in known.get(axis, ()) for axis, label in json.loads(text).items()
            ):
                continue
            self._db.execute(
                "DELETE FROM placements WHERE suite = ? AND selection = ? AND experiment = ? AND"
                " axes = ?",
                (suite, selection, experiment, text),
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
                f"INSERT INTO measurements (record, {_DESCRIBED}, {_SERIES}, why)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (_row(row, m, record.session) for m in record.measurements),
            )

    # ------------------------------------------------------------ reading

    def newest(
        self, keys: Iterable[str] | None = None, *, light: bool = False
    ) -> dict[str, Record]:
        """Return the record that counts of each key, of all or of those named.

        It is the newest sound one, else the newest: a failed attempt hides no earlier success, but
        is told by `later`. `light` leaves out what is most of the bytes: configuration, events,
        log, parts, samples.
        """
        texts = "'{}', '[]', ''" if light else "r.config, r.events, r.log"
        series = "'{}', '[]', '[]', '[]'" if light else _SERIES
        with told(self.path):
            why = "why" if self._has_reasons() else "''"
            self._choose(keys)
            rows = self._db.execute(
                "SELECT r.id, r.key, r.cell, r.session, r.status, r.reason, r.started, r.seconds,"
                f" {texts}, CASE WHEN last.id > r.id THEN last.status ELSE '' END FROM chosen"
                " JOIN records r ON r.id = chosen.id JOIN records last ON last.id = chosen.last"
            ).fetchall()
            measured: dict[int, list[Measurement]] = {}
            for row in self._db.execute(
                f"SELECT record, {_DESCRIBED}, {series}, {why} FROM chosen"
                " JOIN measurements ON record = id ORDER BY measurements.rowid"
            ):
                measured.setdefault(row[0], []).append(_measurement(row))
        return {row[1]: _record(row, measured.get(row[0], [])) for row in rows}

    def _has_reasons(self) -> bool:
        """Whether the file has schema 2 by now: one opened for reading isn't upgraded."""
        return bool(
            self._db.execute(
                "SELECT count(*) FROM pragma_table_info('measurements') WHERE name = 'why'"
            ).fetchone()[0]
        )

    def _choose(self, keys: Iterable[str] | None) -> None:
        """Fill the table `chosen` with the record that counts, and the last, of each key."""
        for table in ("wanted (key TEXT PRIMARY KEY)", "chosen (id INTEGER PRIMARY KEY, last)"):
            self._db.execute(f"CREATE TEMP TABLE IF NOT EXISTS {table}")
            self._db.execute(f"DELETE FROM {table.split()[0]}")
        source = "records"
        if keys is not None:
            source = "records JOIN wanted USING (key)"
            self._db.executemany(
                "INSERT OR IGNORE INTO wanted VALUES (?)", ((key,) for key in keys)
            )
        self._db.execute(
            "INSERT INTO chosen SELECT coalesce(max(CASE status WHEN 'ok' THEN id END), max(id)),"
            f" max(id) FROM {source} GROUP BY key"
        )

    def durations(self) -> dict[str, float]:
        """Return {cell: seconds} of every cell's newest sound record."""
        with told(self.path):
            rows = self._db.execute(
                "SELECT cell, seconds FROM records WHERE status = 'ok' ORDER BY id"
            ).fetchall()
        return dict(rows)

    def placements(self, suite: str, selection: str) -> list[Placement]:
        """Return the cells of a suite's selection, in the order of the suite."""
        with told(self.path):
            rows = self._db.execute(
                "SELECT experiment, axes, seed, cell, key FROM placements WHERE suite = ? AND"
                " selection = ? ORDER BY position",
                (suite, selection),
            ).fetchall()
        return [Placement(row[0], json.loads(row[1]), *row[2:]) for row in rows]

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
    _, key, cell, session, status, reason, started, seconds, config, events, log, later = row
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
        later=later if status == "ok" else "",
        measurements=measured,
    )


def _measurement(row: Sequence[Any]) -> Measurement:
    _, metric, where, value, unit, direction, margin, relative, session, source, *rest = row
    parts, at, samples, seconds, why = rest
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
        why=why,
    )


def _load(text: str) -> Any:
    return {} if text == "{}" else [] if text == "[]" else json.loads(text)


def _row(record: int | None, m: Measurement, session: int) -> tuple[Any, ...]:
    described = (m.metric, m.where, m.value, m.unit, m.direction, m.margin, m.relative)
    series = (_dump(m.parts), _dump(m.at), _dump(m.samples), _dump(m.seconds))
    return (record, *described, m.session or session, m.source, *series, m.why)


def _dump(value: Any) -> str:
    if isinstance(value, Mapping):
        value = dict(value)
    return json.dumps(value, separators=(",", ":"))
