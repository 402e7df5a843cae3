"""What would be reported of times where nothing changed, and which slowdown would be found.

    python tools/asv_noise.py RESULTS [CONFIGURATION]

RESULTS are asv's, of commits that are alike (`make asv-noise` makes them). Their order tells
nothing, so each series of times is shuffled `SHUFFLES` times, made slower by a factor from the
middle on, and handed to asv's own detection of steps and to the medians of asv_times.py, with the
thresholds of the configuration. An alarm is a report at factor 1; a find is one at that commit or
beside it. Numbers that aren't times must not differ at all: those that do are named, and the exit
status is 1.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from asv.step_detect import detect_regressions, detect_steps
from asv_times import LEAST, risen, series, threshold_of

FACTORS = (1.0, 1.05, 1.1, 1.15, 1.2, 1.25, 1.3, 1.4, 1.5, 1.75, 2.0, 3.0)
SHUFFLES = 20
Detection = Callable[[Sequence[float], float], int | None]


def stepped(values: Sequence[float], threshold: float) -> int | None:
    """Return where asv's regressions have a series' last rise, or None."""
    jumps = detect_regressions(detect_steps(list(values)), threshold)[2]
    return int(jumps[-1][1]) if jumps else None


def curve(
    values: Sequence[float], threshold: float, detection: Detection, seed: int = 0
) -> list[float]:
    """Return the share of shuffles with a find, at each of `FACTORS`; with an alarm, at 1."""
    rng = random.Random(seed)
    counts = [0] * len(FACTORS)
    middle = len(values) // 2
    for _ in range(SHUFFLES):
        order = rng.sample(values, len(values))
        for index, factor in enumerate(FACTORS):
            slowed = [*order[:middle], *(factor * value for value in order[middle:])]
            at = detection(slowed, threshold)
            counts[index] += at is not None and (factor == 1 or abs(at - middle) <= 1)
    return [count / SHUFFLES for count in counts]


def main(folder: Path, configuration: Path = Path("asv.conf.json")) -> int:
    """Print what changed that is exact, and the curves of what is timed; return the status."""
    thresholds = json.loads(configuration.read_text())["regressions_thresholds"]
    whole = series(folder)
    commits = max(map(len, whole.values()), default=0)
    if commits < 2 * LEAST:
        sys.exit(f"asv_noise: {folder} has {commits} commits; at least {2 * LEAST} are needed")
    found = {key: list(at.values()) for key, at in whole.items() if len(at) == commits}
    timed = {key: values for key, values in found.items() if "_time" in key[0]}
    moved = [key for key, values in found.items() if key not in timed and len(set(values)) > 1]
    print(f"{commits} commits alike; {len(found) - len(timed)} exact series, {len(timed)} timed")
    print(f"exact series that differ: {len(moved)}")
    for name, cell in moved:
        values = found[name, cell]
        print(f"  {name} ({cell}): {min(values):.6g} to {max(values):.6g}")
    heads = "".join(f"{factor:>6g}" for factor in FACTORS[1:])
    print(f"\n{'found at a factor of':50}{'series':>7}{'alarms':>8}{heads}")
    for title, detection in (("asv's steps", stepped), ("medians", risen)):
        kinds: dict[str, list[list[float]]] = {title: []}
        for (name, _), values in timed.items():
            each = curve(values, threshold_of(name, thresholds), detection)
            kinds[title].append(each)
            if detection is risen:
                kinds.setdefault(f"  {name.removeprefix('tracked.')}", []).append(each)
        for kind, curves in kinds.items():
            means = [sum(column) / len(curves) for column in zip(*curves, strict=True)]
            cells = "".join(f"{mean:>6.0%}" for mean in means[1:])
            print(f"{kind:50}{len(curves):>7}{means[0]:>8.1%}{cells}")
    return 1 if moved else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
