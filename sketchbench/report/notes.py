"""Notes: the lines under a table that say why a number is missing or can't be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sketchbench.report.groups import Column, Group, Reading
from sketchbench.report.plans import NOT_RUN, cells, one_line

LISTED = 8  # names in one note before the rest are only counted

Readings = Mapping[Column, Mapping[str, Mapping[int, Reading]]]


def of(group: Group, readings: Readings) -> list[str]:
    """Return every note on a group: failures first, then gaps, then what the control says."""
    lines = [*_failures(group), *_pending(group)]
    if group.baseline is not None and group.baseline not in group.methods:
        lines.append(f"the baseline '{group.baseline}' has no cell in this group")
    for column, by_method in readings.items():
        lines += _undefined(column, by_method)
        lines += _apart(group, column, by_method)
    for column, by_method in readings.items():
        if group.control in group.methods and column.quality and not column.missing:
            lines += _control(column, by_method, str(group.control))
    return lines


def _failures(group: Group) -> list[str]:
    found: dict[tuple[str, str], dict[str, list[int]]] = {}
    for method, by_seed in group.methods.items():
        for seed, cell in by_seed.items():
            if cell.record and cell.status != "ok":
                why = (cell.status, one_line(cell.record.reason))
                found.setdefault(why, {}).setdefault(method, []).append(seed)
    return [
        f"{status} × {sum(map(len, by_method.values()))}"
        + (f": {reason}" if reason else "")
        + f" ({names(f'{method}, {seeds(lost)}' for method, lost in by_method.items())})"
        for (status, reason), by_method in found.items()
    ]


def _pending(group: Group) -> list[str]:
    planned = [cell for by_seed in group.methods.values() for cell in by_seed.values()]
    missing = sum(cell.status == NOT_RUN for cell in planned)
    return [f"{missing} of {cells(len(planned))} not run yet"] if missing else []


def _undefined(column: Column, by_method: Mapping[str, Mapping[int, Reading]]) -> list[str]:
    if column.missing:
        return [f"{column.label}: no installed plugin has this metric"]
    found: dict[str, list[str]] = {}
    for method, by_seed in by_method.items():
        why = [reading.why for reading in by_seed.values() if reading.why]
        for reason in dict.fromkeys(why):
            lost = f"{method} ({why.count(reason)} of {_of(len(by_seed))})"
            found.setdefault(reason, []).append(lost)
    return [f"{column.label}: {one_line(reason)} for {names(f)}" for reason, f in found.items()]


def _apart(
    group: Group, column: Column, by_method: Mapping[str, Mapping[int, Reading]]
) -> list[str]:
    """Say which times have no partner: their baseline was measured in another session."""
    if not column.clocked or group.baseline not in group.methods:
        return []
    base = by_method[str(group.baseline)]
    lost = []
    for method, by_seed in by_method.items():
        shared = by_seed.keys() & base.keys()
        apart = sum(by_seed[seed].sessions != base[seed].sessions for seed in shared)
        if apart:
            lost.append(f"{method} ({apart} of {_of(len(shared))})")
    return (
        [f"{column.label}: baseline measured in another session for {names(lost)}"] if lost else []
    )


def _control(
    column: Column, by_method: Mapping[str, Mapping[int, Reading]], control: str
) -> list[str]:
    """Say which methods can't be told from the control, which are worse, which are untested."""
    same, worse, untold, others = [], [], [], 0
    for method, by_seed in by_method.items():
        if method == control or not by_seed:
            continue
        gap = column.compare(by_seed, by_method[control])
        undecided = gap.undecided()
        if undecided is None:
            untold.append(method)
        elif undecided:
            same.append(method)
        elif (gap.value > (1 if column.relative else 0)) != (column.direction == "higher"):
            worse.append(method)
        else:
            others += 1
    parts = [
        f"{phrase}: {names(found)}"
        for phrase, found in (
            (f"not distinguishable from the control '{control}'", same),
            (f"worse than the control '{control}'", worse),
            (f"too few pairs of seeds to tell from the control '{control}'", untold),
        )
        if found
    ]
    if others and not parts:
        parts = [f"every method is better than the control '{control}'"]
    return [f"{column.label}: {'; '.join(parts)}"] if parts else []


def names(found: Iterable[str]) -> str:
    """List the first few names and count the rest."""
    listed: Sequence[str] = [one_line(name) for name in found]
    rest = len(listed) - LISTED
    return ", ".join(listed[:LISTED]) + (f", … {rest} more" if rest > 0 else "")


def seeds(found: Iterable[int]) -> str:
    """Phrase seeds: `seed 3`, `seeds 0-2, 5`."""
    runs: list[list[int]] = []
    for seed in sorted(found):
        if runs and seed == runs[-1][-1] + 1:
            runs[-1][1:] = [seed]
        else:
            runs.append([seed])
    text = ", ".join("-".join(map(str, run)) for run in runs)
    return ("seed " if text.isdigit() else "seeds ") + text


def _of(count: int) -> str:
    return f"{count} seed" + ("" if count == 1 else "s")
