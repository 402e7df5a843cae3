"""The file behind the store: its tables, how it is opened, and what its errors say."""

from __future__ import annotations

import os
import sqlite3
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

SCHEMA = 2
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
CREATE TABLE measurements (
    record INTEGER NOT NULL, metric TEXT NOT NULL, place TEXT NOT NULL, value REAL,
    unit TEXT NOT NULL, direction TEXT NOT NULL, margin REAL NOT NULL, relative INTEGER NOT NULL,
    session INTEGER NOT NULL, source TEXT NOT NULL, parts TEXT NOT NULL, at TEXT NOT NULL,
    samples TEXT NOT NULL, seconds TEXT NOT NULL, why TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (record, metric, place)
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
"""

_UPGRADES: Mapping[int, Sequence[str]] = {  # from each earlier schema to the next
    1: ("ALTER TABLE measurements ADD COLUMN why TEXT NOT NULL DEFAULT ''",),
}


class StoreError(Exception):
    """The results can't be read or written; the text says which file, why, and what to do."""


def connect(folder: Path, *, create: bool) -> tuple[sqlite3.Connection, Path]:
    """Open the results file of a folder (or the file itself), made or upgraded if `create`.

    Without `create` a file of an earlier schema stays as it is. Raises `StoreError` where the file
    is missing, newer than this version, foreign or damaged.
    """
    path = folder if folder.suffix == ".sqlite" else folder / FILE
    if not create and not path.exists():
        raise StoreError(f"{path}: no results there; `sketchbench run` makes them")
    with told(path):
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        connection = _opened(path, create)
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
            if version < SCHEMA:
                _upgrade(connection)
        return connection, path


def _opened(path: Path, create: bool) -> sqlite3.Connection:
    if not create and not os.access(path.parent, os.W_OK):  # readers, too, write beside the file
        address = f"file:{urllib.parse.quote(str(path.absolute()))}?mode=ro&immutable=1"
        return sqlite3.connect(address, uri=True, isolation_level=None)
    return sqlite3.connect(path, timeout=60, isolation_level=None)


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


def _upgrade(connection: sqlite3.Connection) -> None:
    """Bring an earlier schema up to this one, or leave it whole; another process may be faster."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for earlier, statements in _UPGRADES.items():
            for statement in statements if earlier >= version else ():
                connection.execute(statement)
        if version < SCHEMA:
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
        connection.execute("COMMIT")
    except BaseException:
        connection.close()  # which takes back what was begun
        raise


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
def told(path: Path) -> Iterator[None]:
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
