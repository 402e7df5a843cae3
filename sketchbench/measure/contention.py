"""Contention: whether others had the cores while a pass was timed.

Linux's pressure figure says that tasks waited, not whose, and a process that has more threads than
there are cores waits for itself. So a pass counts as disturbed where tasks waited at least 15 % of
the time, other processes used at least 0.15 cores meanwhile (all that the cores did less what this
process did), and this process was put off a core at least 20 times a second. Two more causes stand
alone: time that a hypervisor gave to other guests, and a reference kernel (a matrix product on one
thread) that ran 1.5 times slower at one end of the pass than at the other. Where a figure isn't
offered it's null and no cause; without pressure, waiting for others isn't seen at all. Processes
that the pass itself starts count as others.

Measured on two cores of a shared virtual machine (AMD EPYC, Linux 6.18), training an MLP on two
threads for 1.5 s: from least to most of the trials, without those in which someone else used 0.3
cores (which can't be told apart beside busy loops), and how many were flagged for waiting:

    beside it                  trials  flagged  pressure     others (cores)  switches/s  ms a step
    nothing                        11        0  0.00 - 0.11   0.00 - 0.17     114 - 167    5 - 11
    2 loops at `nice 19`           15        0  0.71 - 1.00   0.03 - 0.07     139 - 202    6 - 10
    4 or 8 threads of its own      27        0  0.27 - 0.60  -0.09 - 0.03   3990 - 6720    9 - 15
    2 Python threads of its own    13        0  0.73 - 0.86  -0.03 - 0.03    22k - 71k    13 - 21
    10 ms of work, 100 ms of rest   9        0  0.06 - 0.13   0.06 - 0.14     156 - 246    6 - 11
    30 ms of work, 100 ms of rest  13        1  0.12 - 0.16   0.12 - 0.16     147 - 203    6 - 10
    50 ms of work, 100 ms of rest   7        7  0.18 - 0.19   0.17 - 0.20     126 - 214    8 - 13
    1 busy loop                    15       15  0.50 - 0.62   0.56 - 1.31     185 - 268   18 - 194
    2 busy loops                   15       15  0.86 - 1.00   0.98 - 1.10     224 - 258   22 - 193
    4 busy loops                   17       17  0.92 - 1.00   1.31 - 1.45     151 - 306   50 - 517

With one thread beside one busy loop, a core each, pressure stayed below 0.04 in 10 of 12 trials; a
third process was at work in the others (0.12 and 0.47). Passes of the quickstart suite, 0.3 to
1.3 s: none of 32 flagged with `--jobs 2`, where others used 1.0 cores and pressure was up to 0.05;
with one job 6 of 48, in each of which others had used 0.3 cores or more, and the rest had pressure
up to 0.04. With a busy loop beside the suite 16 of 16 were flagged, with two 16 of 16.

Switches hardly tell a quiet machine from a busy one here; they are asked for because pressure is
that of the whole machine, and a large one has more than a process sees. The reference kernel
doesn't see a busy loop, as its shortest run falls between two interruptions (0.8 to 1.2 beside
them). It sees the machine's own speed: in 2 of the 11 quiet trials it was 1.8 times slower at the
beginning, and their steps were among the slowest; in 1 of the 27 with threads of its own it was
1.5 times slower at the end. Steal was at most 0.02 in these trials: its bound, the margin of a
time in reports, rests on no measurement.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

PRESSURE = 0.15  # of the time, some task waited for a core
OTHERS = 0.15  # cores that others used meanwhile
SWITCHES = 20.0  # times a second this process was put off a core against its will
STEAL = 0.05  # of the time that tasks wanted a core, the hypervisor gave it to another guest
STOLEN = 0.025  # seconds; counted in ticks of 10 ms, of which one or two mean nothing
SLOWER = 1.5  # times as long as at the other end of the pass, for the reference kernel

_SIZE, _REPEATS = 256, 8


def reference_seconds() -> float:
    """Return the least time of a few equal matrix products on one thread: 3 ms in all.

    It draws nothing at random and leaves the number of threads as it was.
    """
    import torch

    threads = torch.get_num_threads()
    a = torch.linspace(0, 1, _SIZE * _SIZE, dtype=torch.float32, device="cpu").view(_SIZE, _SIZE)
    out = torch.empty_like(a)
    torch.set_num_threads(1)
    try:
        torch.mm(a, a, out=out)  # the first one also fills the caches
        return min(_seconds(lambda: torch.mm(a, a, out=out)) for _ in range(_REPEATS))
    finally:
        torch.set_num_threads(threads)


def involuntary_switches() -> int | None:
    """Return how often threads of this process were put off a core so far; None if unknown."""
    try:
        import resource
    except ImportError:  # not a Unix
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


@dataclass(frozen=True)
class Sources:
    """Where the figures come from; a path that can't be read gives none."""

    pressure: Path = Path("/proc/pressure/cpu")
    stat: Path = Path("/proc/stat")
    switches: Callable[[], int | None] = involuntary_switches
    own_seconds: Callable[[], float] = time.process_time
    seconds: Callable[[], float] = time.perf_counter
    reference: Callable[[], float] = reference_seconds


class Contention:
    """Judges a stretch of work between `begin` and `end`, which cost some 3 ms each."""

    def __init__(self, sources: Sources | None = None) -> None:
        self._sources = sources or Sources()
        self._reference = math.nan
        self._before: _Totals | None = None

    def begin(self) -> None:
        """Time the reference kernel, then note where every figure stands."""
        self._reference = self._sources.reference()
        self._before = _totals(self._sources)

    def end(self) -> dict[str, Any]:
        """Return what was seen since `begin` as plain JSON; raises `RuntimeError` without one.

        `what` is `quiet`, or `busy: ` and a cause or more; `busy` says which. `pressure` and
        `steal` are fractions of the time, `involuntary_per_second` counts switches, and
        `reference_ratio` is the reference kernel's time at the end over that at the beginning.
        """
        if self._before is None:
            raise RuntimeError("Contention.end: nothing has begun; call begin() first")
        figures = _figures(self._before, _totals(self._sources))
        self._before = None
        ratio = _ratio(self._sources.reference(), self._reference)
        reasons = [*_reasons(figures), *_speed_reasons(ratio)]
        return {
            "what": f"busy: {'; '.join(reasons)}" if reasons else "quiet",
            "busy": bool(reasons),
            "pressure": figures.pressure,
            "steal": figures.steal,
            "involuntary_per_second": figures.switches,
            "reference_ratio": ratio,
        }


class _Totals(NamedTuple):
    """Sums since boot or since the process began, in seconds; None where they can't be had."""

    clock: float
    own: float
    waited: float | None
    used: float | None
    stolen: float | None
    switches: int | None


class _Figures(NamedTuple):
    """What a stretch of work saw; `others` are the cores that other processes used."""

    pressure: float | None
    others: float | None
    steal: float | None
    stolen_seconds: float | None
    switches: float | None


def _totals(sources: Sources) -> _Totals:
    used, stolen = _cpu_seconds(sources.stat)
    return _Totals(
        clock=sources.seconds(),
        own=sources.own_seconds(),
        waited=_waited_seconds(sources.pressure),
        used=used,
        stolen=stolen,
        switches=sources.switches(),
    )


def _figures(before: _Totals, after: _Totals) -> _Figures:
    seconds = after.clock - before.clock
    waited = _grown(before.waited, after.waited)
    used, stolen = _grown(before.used, after.used), _grown(before.stolen, after.stolen)
    own = after.own - before.own
    others = steal = None
    if used is not None and stolen is not None:
        others = max(0.0, used - own)
        steal = stolen / (used + stolen) if stolen else 0.0
    return _Figures(
        pressure=_ratio(waited, seconds),
        others=_ratio(others, seconds),
        steal=steal,
        stolen_seconds=stolen,
        switches=_ratio(_grown(before.switches, after.switches), seconds),
    )


def _reasons(figures: _Figures) -> list[str]:
    """Return a text for each cause that the figures give for calling the pass disturbed."""
    reasons = []
    pressure, others, steal, stolen, switches = figures
    # Tasks also wait where this process has more threads than there are cores, or where one of
    # lower priority gives way to it: so others must have had the cores meanwhile. And pressure is
    # the whole machine's: on a large one it can be high while this process runs undisturbed.
    put_off = switches is None or switches >= SWITCHES
    if put_off and (pressure or 0) >= PRESSURE and (others or 0) >= OTHERS:
        reasons.append(
            f"tasks waited for a core {_percent(pressure or 0)} of the time, others used "
            f"{others:.1f} cores"
        )
    if steal is not None and steal >= STEAL and (stolen or 0) >= STOLEN:
        reasons.append(f"the hypervisor withheld the cores {_percent(steal)} of the time (steal)")
    return reasons


def _speed_reasons(ratio: float | None) -> list[str]:
    if ratio is None or 1 / SLOWER < ratio < SLOWER:
        return []
    end, factor = ("end", ratio) if ratio > 1 else ("beginning", 1 / ratio if ratio else math.inf)
    return [f"the reference kernel ran {factor:.1f} times slower at the {end}"]


def _waited_seconds(path: Path) -> float | None:
    """Return the seconds during which some task waited for a core, of Linux's PSI file."""
    try:
        some = next(line for line in path.read_text().splitlines() if line.startswith("some "))
        return int(some.rsplit("total=", 1)[1]) / 1e6
    except (OSError, StopIteration, LookupError, ValueError):
        return None


def _cpu_seconds(path: Path) -> tuple[float | None, float | None]:
    """Return the seconds that all cores worked, and those stolen, of Linux's `/proc/stat`."""
    try:
        first = path.read_text().splitlines()[0].split()
        user, nice, system, _, _, irq, softirq, stolen = map(int, first[1:9])
        tick = os.sysconf("SC_CLK_TCK")
    except (OSError, LookupError, ValueError):
        return None, None
    return (user + nice + system + irq + softirq) / tick, stolen / tick


def _grown(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else max(0.0, after - before)


def _ratio(part: float | None, whole: float) -> float | None:
    return None if part is None or not whole > 0 else part / whole


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f} %"


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
