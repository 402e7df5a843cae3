"""Notes: the lines under a table that say why a number is missing or can't be trusted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from sketchbench.report.groups import Column, Group, Reading
from sketchbench.report.plans import NOT_RUN, cells, one_line, spell

LISTED = 8  # names in one note before the rest are only counted

ByMethod = Mapping[str, Mapping[int, Reading]]


def of(group: Group, readings: Mapping[Column, ByMethod]) -> list[str]:
    """Return every note on a group: failures first, then gaps, then what the control says."""
    lines = [*_tuned(group), *_failures(group), *_pending(group), *_attempts(group)]
    lines += _twins(group)
    if group.baseline is not None and group.baseline not in group.methods:
        lines.append(f"the baseline '{group.baseline}' has no cell in this group")
    told: dict[str, list[str]] = {}
    for look in (_undefined, _unresolved, _busy, _apart, _control):
        for column, by_method in readings.items():
            for note in look(group, column, by_method):
                told.setdefault(note, []).append(column.label)
    return lines + [f"{', '.join(labels)}: {note}" for note, labels in told.items()]


def _tuned(group: Group) -> list[str]:
    """Say which value of a tuned axis each method is shown at."""
    if not (group.chosen or group.passed):
        return []
    lost = Counter(cell.status for cell in group.passed if cell.status != "ok")
    rest = f"; of {cells(len(group.passed))} at other values {spell(lost)}" if lost else ""
    if not group.chosen:
        return [f"nothing to tune by yet{rest}"]
    found: dict[str, list[str]] = {}
    for method, label in group.chosen.items():
        found.setdefault(label, []).append(method)
    each = "; ".join(f"{label} for {', '.join(methods)}" for label, methods in found.items())
    return [
        f"tuned: {each}; chosen on the seeds shown, so every method looks a little too good; "
        f"`sketchbench export` has every value{rest}"
    ]


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


def _attempts(group: Group) -> list[str]:
    """Say where a newer attempt failed and an earlier, sound record is shown."""
    found: dict[str, list[str]] = {}
    for method, by_seed in group.methods.items():
        for seed, cell in by_seed.items():
            if cell.record and cell.record.later:
                found.setdefault(cell.record.later, []).append(f"{method}, {seeds([seed])}")
    return [
        f"measured again and ended in {status}, the earlier record is shown: {names(which)}"
        for status, which in found.items()
    ]


def _twins(group: Group) -> list[str]:
    """Say which methods are one configuration under two labels: they share their records."""
    found: dict[frozenset[str], list[str]] = {}
    for method, by_seed in group.methods.items():
        cells_of = frozenset(cell.placement.cell for cell in by_seed.values())
        found.setdefault(cells_of, []).append(method)
    return [
        f"one configuration, measured once: {names(same)}"
        for same in found.values()
        if len(same) > 1
    ]


def _undefined(group: Group, column: Column, by_method: ByMethod) -> list[str]:
    if column.missing:
        return ["no installed plugin has this metric"]
    found: dict[str, dict[str, int]] = {}
    for method, by_seed in by_method.items():
        for reading in by_seed.values():
            if reading.why:
                lost = found.setdefault(reading.why, {})
                lost[method] = lost.get(method, 0) + 1
    return [_without(reason, _lost(lost, by_method)) for reason, lost in found.items()]


def _unresolved(group: Group, column: Column, by_method: ByMethod) -> list[str]:
    """Say which methods have no quotient because its denominator may be 0."""
    if not column.pooled:
        return []
    found: dict[str, list[str]] = {}
    for method, by_seed in by_method.items():
        below = getattr(column.estimate(by_seed), "below", None)
        if below:
            wide = "" if below.half_width is None else f" ± {below.half_width:.2g}"
            found.setdefault(f"{below.value:.2g}{wide}", []).append(method)
    return [
        f"undefined for {names(methods)}: the denominator is {below}, which can't be told from 0"
        for below, methods in found.items()
    ]


def _without(reason: str, whom: str) -> str:
    """Put the methods before the details: `missing for a (1 of 5 seeds): no compiler`."""
    what, colon, details = one_line(reason).partition(": ")
    return f"{what} for {whom}{colon}{details}"


def _lost(lost: Mapping[str, int], by_method: ByMethod) -> str:
    """Phrase how many seeds of which methods lack a value."""
    measured = {method: len(by_seed) for method, by_seed in by_method.items() if by_seed}
    if len(measured) > 2 and lost == measured:
        return "every method"
    return names(f"{method} ({n} of {_of(measured[method])})" for method, n in lost.items())


def _busy(group: Group, column: Column, by_method: ByMethod) -> list[str]:
    """Say which times were taken while the machine had other work, and what it was."""
    found = []
    for method, by_seed in by_method.items():
        what = [reading.busy for reading in by_seed.values() if reading.busy]
        if what:
            found.append(f"{method} ({len(what)} of {_of(len(by_seed))}: {what[0]})")
    return [f"measured while the machine was busy: {names(found)}"] if found else []


def _apart(group: Group, column: Column, by_method: ByMethod) -> list[str]:
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
    return [f"baseline measured in another session for {names(lost)}"] if lost else []


def _control(group: Group, column: Column, by_method: ByMethod) -> list[str]:
    """Say which methods can't be told from the control, which are worse, which are untested."""
    control = group.control
    if control not in group.methods or not column.quality or column.missing or column.pooled:
        return []
    same, worse, untold, better = [], [], [], []
    for method, by_seed in by_method.items():
        if method == control or not by_seed:
            continue
        gap = column.compare(by_seed, by_method[str(control)])
        undecided = gap.undecided()
        if undecided is None:
            untold.append(method)
        elif undecided:
            same.append(method)
        elif (gap.value > (1 if column.relative else 0)) == (column.direction == "higher"):
            better.append(method)
        else:
            worse.append(method)
    if better and not (same or worse or untold):
        return [f"every method is better than the control '{control}'"]
    phrases = {
        f"not distinguishable from the control '{control}'": same,
        f"worse than the control '{control}'": worse,
        f"too few pairs of seeds to tell from the control '{control}'": untold,
    }
    parts = [f"{phrase}: {names(found)}" for phrase, found in phrases.items() if found]
    return ["; ".join(parts)] if parts else []


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
