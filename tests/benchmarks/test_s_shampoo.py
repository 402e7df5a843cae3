"""CPU time of S-Shampoo's steps against Shampoo's at the same update interval, and their memory.

One weight of 1024 × 1024, k = 64, both axes, no graft and no momentum. All methods take turns, so
that what slows the machine slows all of them; a step in ten renews. Ratios are of medians of
process CPU time on one thread, and stand in `extra_info`. Run with `-s` for the table. The issue
asks for `gram` ≤ 0.8 and `subspace` ≤ 0.3 of Shampoo. Figures, no verdicts.
"""

import statistics
import time

import pytest
import sketchbench_dense as dense
import sketchbench_frequent_directions as fd
import torch
from torch import Generator, nn

from sketchbench.measure import LiveBytes, state_bytes
from sketchbench.protocols import Watched

SIZE, RANK, EVERY, TURNS = 1024, 64, 10, 3
BARE = {"update_every": EVERY, "graft": "none", "momentum": 0.0, "nesterov": False}
METHODS = {
    "shampoo": dense.Shampoo(**BARE),
    "shampoo, exact": dense.Shampoo(skipped="exact", **BARE),
    "shampoo, float32": dense.Shampoo(precision="float32", **BARE),
    "shampoo, float32, exact": dense.Shampoo(precision="float32", skipped="exact", **BARE),
    "shampoo, blocks of 256": dense.Shampoo(block_size=256, **BARE),
    **{
        f"s-shampoo {solver}": fd.SShampoo(rank=RANK, solver=solver, **BARE)
        for solver in ("svd", "gram", "gram32", "subspace")
    },
}


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_step_time_of_s_shampoo(benchmark, capsys, one_thread):
    """CPU seconds of a step that renews and of one that doesn't, amortised; bytes of both."""
    runs = {label: _Steps(recipe) for label, recipe in METHODS.items()}
    workspaces = {label: run.workspace() for label, run in runs.items()}
    times = {label: [] for label in runs}
    for _ in range(TURNS):
        for label, run in runs.items():
            times[label].append(run.period())
    medians = {
        label: [statistics.median(column) for column in zip(*seconds, strict=True)]
        for label, seconds in times.items()
    }
    benchmark.pedantic(runs["s-shampoo subspace"].period, rounds=1)
    amortised = {
        label: (renewing + (EVERY - 1) * other) / EVERY
        for label, (renewing, other) in medians.items()
    }
    with capsys.disabled():
        print(f"\n{'':24}{'renewing':>10}{'other':>8}{'amortised':>11}", end="")
        print(f"{'× Shampoo':>11}{'state MB':>10}{'workspace MB':>14}")
        for label, (renewing, other) in medians.items():
            ratio = amortised[label] / amortised["shampoo"]
            state, workspace = runs[label].state / 1e6, workspaces[label] / 1e6
            benchmark.extra_info[label] = {"ratio": ratio, "state": state, "workspace": workspace}
            print(f"{label:24}{renewing:10.3f}{other:8.3f}{amortised[label]:11.4f}", end="")
            print(f"{ratio:11.3f}{state:10.2f}{workspace:14.1f}")


class _Steps:
    """An optimizer of one weight, fed with gradients whose spectrum falls."""

    def __init__(self, recipe):
        rng = Generator().manual_seed(0)
        decay = torch.arange(1, SIZE + 1) ** -0.5
        self._gradients = [
            torch.randn(SIZE, SIZE, generator=rng) * decay @ torch.randn(SIZE, SIZE, generator=rng)
            for _ in range(2)
        ]
        self._p = nn.Parameter(torch.zeros(SIZE, SIZE))
        self._optimizer = recipe.build([self._p])
        self._count = 0
        for _ in range(EVERY):  # the first renewal of all has nothing to decay, or to start from
            self.step()

    def step(self):
        self._p.grad = self._gradients[self._count % 2]
        self._count += 1
        start = time.process_time()
        self._optimizer.step()
        return time.process_time() - start

    def period(self):
        """Return the CPU seconds of the step that renews, and the median of the others'."""
        renewing = self.step()
        return renewing, statistics.median(self.step() for _ in range(EVERY - 1))

    @property
    def state(self):
        return sum(state_bytes(self._optimizer, torch.device("cpu")).values())

    def workspace(self):
        """Return the most bytes that a step that renews holds beyond those from step to step.

        Scratch memory inside LAPACK isn't among them.
        """
        watched = Watched(optimizer=self._optimizer, inputs=(self._p, *self._gradients))
        with LiveBytes(torch.device("cpu"), watched) as watching:
            self.step()
        for _ in range(EVERY - 1):
            self.step()
        return watching.footprint.peak - watching.footprint.start
