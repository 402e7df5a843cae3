"""Which times rose, by medians: asv's own detection of steps finds half of those that rose by 1.5.

    python tools/asv_times.py RESULTS [CONFIGURATION]

RESULTS are asv's, of commits of the repository at hand. A time rose at a commit if the median of
the `AFTER` commits from it on is above that of the `BEFORE` before it by more than the threshold
that the configuration has for it, and the last ones still are. At least `LEAST` commits stand on
either side, so a rise is told that many commits late. `make asv-noise` measures what it finds.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from asv.results import iter_results

BEFORE, AFTER, LEAST = 10, 5, 4
Series = dict[tuple[str, str], dict[str, float]]


def series(folder: Path) -> Series:
    """Return {commit: value} of every benchmark and parameter, where there is a value."""
    found: Series = {}
    for results in iter_results(str(folder)):
        for name in results.get_all_result_keys():
            params = results.get_result_params(name)
            values = results.get_result_value(name, params) or []
            for cell, value in zip(itertools.product(*params), values, strict=True):
                if value is not None and not math.isnan(value):
                    key = (name, ", ".join(word.strip("'\"") for word in cell))
                    found.setdefault(key, {})[results.commit_hash] = value
    return found


def threshold_of(name: str, thresholds: Mapping[str, float]) -> float:
    """Return asv's threshold of a benchmark: the largest whose pattern matches, else 5 %."""
    return max((value for key, value in thresholds.items() if re.match(key, name)), default=0.05)


def risen(values: Sequence[float], threshold: float) -> int | None:
    """Return the index at which a series of positive values rose and stayed up, or None.

    Of several places the one with the largest step of the mean logarithm, as medians move slowly.
    """
    found: list[tuple[float, int]] = []
    last = statistics.median(values[-AFTER:]) if values else 0.0
    for index in range(LEAST, len(values) - LEAST + 1):
        before, after = values[max(0, index - BEFORE) : index], values[index : index + AFTER]
        least = statistics.median(before) * (1 + threshold)
        if min(statistics.median(after), last) > least:
            logs = [statistics.fmean(map(math.log, some)) for some in (before, after)]
            found.append((logs[1] - logs[0], index))
    return max(found)[1] if found else None


def main(folder: Path, configuration: Path = Path("asv.conf.json")) -> None:
    """Print every time that rose: the commit, by how much, and what."""
    thresholds = json.loads(configuration.read_text())["regressions_thresholds"]
    git = ["git", "rev-list", "--reverse", "--topo-order", "HEAD"]
    ordered = subprocess.run(git, check=True, capture_output=True, text=True).stdout.split()
    rises, looked = [], 0
    for (name, cell), at in series(folder).items():
        commits = [commit for commit in ordered if at.get(commit, 0) > 0]
        if "_time" not in name or len(commits) < 2 * LEAST:
            continue
        looked += 1
        values = [at[commit] for commit in commits]
        index = risen(values, threshold_of(name, thresholds))
        if index is not None:
            before, after = values[max(0, index - BEFORE) : index], values[index : index + AFTER]
            ratio = statistics.median(after) / statistics.median(before)
            rises.append((ordered.index(commits[index]), commits[index][:8], ratio, name, cell))
    print(f"times that rose: {len(rises)} of {looked} that {2 * LEAST} commits or more have")
    for _, commit, ratio, name, cell in sorted(rises, reverse=True):
        print(f"  {commit}  {ratio:.2f} times  {name}{f' ({cell})' if cell else ''}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
