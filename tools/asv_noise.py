"""What asv would report of times where nothing changed, and which slowdown it would find.

    python tools/asv_noise.py RESULTS [CONFIGURATION]

RESULTS are asv's, of commits that are alike (`make asv-noise` makes them). Their order tells
nothing, so each series is shuffled `SHUFFLES` times. From the middle on it is made slower by a
factor, and handed to asv's own detection of steps, with the thresholds of the configuration. A
false alarm is a report at factor 1; a find is a report at the very commit, and no other. Numbers
that aren't times must not differ at all: those that do are named, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import re
import sys
from pathlib import Path

from asv.results import iter_results
from asv.step_detect import detect_regressions, detect_steps

FACTORS = (1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.4, 1.5, 1.75, 2.0, 3.0)
SHUFFLES = 20
Series = dict[tuple[str, str], list[float]]


def series(folder: Path) -> Series:
    """Return the values of every benchmark and parameter that has one at each commit."""
    found: Series = {}
    commits = 0
    for results in iter_results(str(folder)):
        commits += 1
        for name in results.get_all_result_keys():
            params = results.get_result_params(name)
            values = results.get_result_value(name, params)
            for cell, value in zip(itertools.product(*params), values, strict=True):
                if value is not None and not math.isnan(value):
                    found.setdefault((name, ", ".join(cell).strip("'")), []).append(value)
    if commits < 4:
        sys.exit(f"asv_noise: {folder} has results of {commits} commits; at least four are needed")
    return {key: values for key, values in found.items() if len(values) == commits}


def threshold_of(name: str, thresholds: dict[str, float]) -> float:
    """Return asv's threshold of a benchmark: the largest whose pattern matches, else 5 %."""
    return max((value for key, value in thresholds.items() if re.match(key, name)), default=0.05)


def reported(values: list[float], threshold: float) -> list[int]:
    """Return where asv would report that a series rose: the index of the first higher value."""
    jumps = detect_regressions(detect_steps(values), threshold)[2]
    return [jump[1] for jump in jumps or []]


def curve(values: list[float], threshold: float, rng: random.Random) -> list[float]:
    """Return the share of shuffles with a find, at each of `FACTORS`; with a report, at 1."""
    counts = [0] * len(FACTORS)
    middle = len(values) // 2
    for _ in range(SHUFFLES):
        order = rng.sample(values, len(values))
        for index, factor in enumerate(FACTORS):
            slowed = [*order[:middle], *(factor * value for value in order[middle:])]
            at = reported(slowed, threshold)
            counts[index] += bool(at) if factor == 1 else at == [middle]
    return [count / SHUFFLES for count in counts]


def main(folder: Path, configuration: Path) -> int:
    """Print what changed that is exact, and the curve of what is timed; return the exit status."""
    thresholds = json.loads(configuration.read_text())["regressions_thresholds"]
    found = series(folder)
    timed = {key: values for key, values in found.items() if "_time" in key[0]}
    moved = [key for key, values in found.items() if key not in timed and len(set(values)) > 1]
    commits = len(next(iter(found.values())))
    print(f"{commits} commits alike; {len(found) - len(timed)} exact series, {len(timed)} timed")
    print(f"exact series that differ: {len(moved)}")
    for name, cell in moved:
        values = found[name, cell]
        print(f"  {name} ({cell}): {min(values):.6g} to {max(values):.6g}")
    rng = random.Random(0)
    curves: dict[tuple[str, str], list[float]] = {}
    asis = 0
    for key, values in timed.items():
        threshold = threshold_of(key[0], thresholds)
        curves[key] = curve(values, threshold, rng)
        asis += bool(reported(values, threshold))
    print(f"timed series reported in the order they were measured: {asis} of {len(timed)}")
    kinds: dict[str, list[list[float]]] = {"all": list(curves.values())}
    for (name, _), each in curves.items():
        kinds.setdefault(name.removeprefix("tracked."), []).append(each)
    heads = "".join(f"{factor:>7g}" for factor in FACTORS[1:])
    print(f"{'found at factor':52}{'series':>7}{'alarms':>8}{heads}")
    for kind, some in kinds.items():
        means = [sum(column) / len(some) for column in zip(*some, strict=True)]
        cells = "".join(f"{mean:>7.0%}" for mean in means[1:])
        print(f"{kind:52}{len(some):>7}{means[0]:>8.1%}{cells}")
    return 1 if moved else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("configuration", type=Path, nargs="?", default=Path("asv.conf.json"))
    words = parser.parse_args()
    sys.exit(main(words.results, words.configuration))
