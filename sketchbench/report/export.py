"""Exports: every stored number as one tidy row, for other tools to read."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from sketchbench.records import Measurement, Session
from sketchbench.report.groups import COUNTS, Cell, Column, Derive, Group, Reading, groups
from sketchbench.report.plans import Plan

COLUMNS = (
    *("suite", "experiment", "cell", "label", "axes", "seed", "status", "metric", "where", "at"),
    *("value", "part", "unit", "direction", "machine", "started"),
)

Row = Mapping[str, Any]


def rows(
    plans: Iterable[Plan], derive: Derive | None = None, samples: bool = False
) -> Iterator[Row]:
    """Yield the rows of every planned cell, in the order of the suite.

    A value has neither `at` nor `part`; a point of its curve has `at`; a part of it has `part`.
    With `samples`, each sample is a part `sample` whose `at` is its index. A cell without values
    has one row, with its status. A metric that is missing has a row without a value: the report
    tells the reason. A cell in two selections of a suite appears once. A quotient of means over
    seeds has rows without a seed, whose `cell` is `pooled-` and a digest of the cells in it: of
    two selections with other cells, the rows can be told apart.
    """
    seen: set[tuple[Any, ...]] = set()
    for plan in plans:
        for group in groups(plan.outline, plan.placements, plan.records, derive):
            derived = {c: group.readings(c) for c in group.columns if c.derived and not c.missing}
            for method, by_seed in group.methods.items():
                for seed, cell in by_seed.items():
                    known = _known(plan.suite, group, method, cell)
                    values = {c: found[method].get(seed) for c, found in derived.items()}
                    identity = tuple(known.values())
                    if identity not in seen:
                        yield from _cell(known, cell, plan.sessions, samples)
                    for column, reading in values.items():
                        if reading and (*identity, column.label) not in seen:
                            seen.add((*identity, column.label))
                            yield _derived(known, cell, plan.sessions, column, reading)
                    seen.add(identity)
            for column in derived:
                if column.pooled:
                    for row in _pooled(plan.suite, group, column, derived[column]):
                        if tuple(row.values()) not in seen:
                            seen.add(tuple(row.values()))
                            yield row


def write_csv(rows: Iterable[Row], file: IO[str]) -> None:
    """Write rows as CSV: numbers in full precision, `nan` as such, a missing value as nothing."""
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def write_jsonl(rows: Iterable[Row], file: IO[str]) -> None:
    """Write rows as JSON lines: numbers in full precision, null where they aren't finite."""
    for row in rows:
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in row.items()
        }
        file.write(json.dumps(finite, ensure_ascii=False, allow_nan=False) + "\n")


WRITERS: Mapping[str, Callable[[Iterable[Row], IO[str]], None]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
}


def save(rows: Iterable[Row], path: Path, format: str) -> None:
    """Write `path` whole or not at all: a failure leaves what was there before."""
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(path.parent))
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with open(handle, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
            WRITERS[format](rows, file)
            file.flush()
            os.fsync(handle)
        os.chmod(name, _mode(path))
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _mode(path: Path) -> int:
    """Return the mode that an ordinary `open` would have left: mkstemp makes files private."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def _known(suite: str, group: Group, method: str, cell: Cell) -> dict[str, Any]:
    placement = cell.placement
    return {
        "suite": suite,
        "experiment": group.experiment,
        "cell": placement.cell,
        "label": method,
        "axes": json.dumps(dict(placement.axes), ensure_ascii=False),
        "seed": placement.seed,
        "status": cell.status,
    }


def _cell(known: Row, cell: Cell, sessions: Mapping[int, Session], samples: bool) -> Iterator[Row]:
    record = cell.record
    if record is None:
        yield _row(known)
        return
    if not record.measurements:
        yield _row(known, machine=_machine(sessions, record.session), started=record.started)
    for measurement in record.measurements:
        measured = {
            "metric": measurement.metric,
            "where": measurement.where or None,
            "unit": measurement.unit,
            "direction": measurement.direction,
            "machine": _machine(sessions, measurement.session or record.session),
            "started": record.started,
        }
        for at, part, value in _numbers(measurement, samples):
            unit = "" if part in COUNTS else measurement.unit
            yield _row(known, **measured | {"at": at, "part": part, "value": value, "unit": unit})


def _numbers(
    measurement: Measurement, samples: bool
) -> Iterator[tuple[float | None, str | None, float | None]]:
    """Yield (at, part, value): the value itself, its curve, its parts, its samples."""
    yield None, None, None if measurement.why else measurement.value
    if measurement.at:
        for at, value in zip(measurement.at, measurement.samples, strict=True):
            yield float(at), None, _number(value)
    for part, value in measurement.parts.items():
        yield None, part, _number(value)
    if samples and not measurement.at:
        for index, value in enumerate(measurement.samples):
            yield float(index), "sample", _number(value)


def _derived(
    known: Row, cell: Cell, sessions: Mapping[int, Session], column: Column, reading: Reading
) -> Row:
    assert cell.record is not None
    machines: Sequence[str] = sorted({_machine(sessions, number) for number in reading.sessions})
    return _row(
        known,
        metric=column.metric,
        where=column.where,
        value=reading.value,
        unit=column.unit,
        direction=column.direction,
        machine=" ".join(machines),
        started=cell.record.started,
    )


def _pooled(
    suite: str, group: Group, column: Column, readings: Mapping[str, Mapping[int, Reading]]
) -> Iterator[Row]:
    """Yield each method's quotient of means over seeds: its value, and its interval as parts."""
    for method, by_seed in readings.items():
        found = column.estimate(by_seed)
        placements = [cell.placement for cell in group.methods[method].values()]
        if not found.n or not placements:
            continue
        known = {
            "suite": suite,
            "experiment": group.experiment,
            "cell": _pool(group, method, by_seed),
            "label": method,
            "axes": json.dumps(dict(placements[0].axes), ensure_ascii=False),
        }
        for part, value in ((None, found.value), ("low", found.low), ("high", found.high)):
            yield _row(
                known,
                metric=column.metric,
                where=column.where,
                part=part,
                value=value,
                unit=column.unit,
                direction=column.direction,
            )


def _pool(group: Group, method: str, seeds: Iterable[int]) -> str:
    """Name the cells of some seeds that a method's quotient rests on: its own, and the compared."""
    rows = [group.methods.get(str(each), {}) for each in (method, group.baseline, group.control)]
    cells = {row[seed].placement.cell for row in rows for seed in seeds if seed in row}
    return "pooled-" + hashlib.sha256("\n".join(sorted(cells)).encode()).hexdigest()[:16]


def _row(known: Row, **values: Any) -> Row:
    return {name: values.get(name, known.get(name)) for name in COLUMNS}


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _machine(sessions: Mapping[int, Session], number: int) -> str:
    return sessions[number].machine if number in sessions else ""
