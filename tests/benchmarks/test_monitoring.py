"""What a monitor adds to a step of exact training. Figures, no verdicts.

Steps with each monitor and without one take turns in one process, on one thread. `extra_info` has
the first quartile of their CPU times, and the overhead in percent as the median over turns of the
ratio to the step without, which is what a busy machine disturbs least.
"""

import statistics
import time

import pytest
import torch
from sketchbench_dense import GradNormExact, GradSnapshots
from sketchbench_tri_sketch import TriSketchMonitor
from torch.nn import functional as F

from sketchbench import Shapes
from sketchbench.builtin import MLP

CASES = {
    "MNIST, 784-512-512-512-10": (Shapes((784,), 10), (512,) * 3, 128, 100),
    "four of 1024 x 1024, batch 128": (Shapes((1024,), 1024), (1024,) * 3, 128, 40),
    "four of 1024 x 1024, batch 512": (Shapes((1024,), 1024), (1024,) * 3, 512, 15),
}
MONITORS = {
    "none": None,
    "exact norms": GradNormExact(),
    "snapshots": GradSnapshots(window=1),
    "sketches r=2": TriSketchMonitor(rank=2),
    "sketches r=2 every 5": TriSketchMonitor(rank=2, every=5),
    "sketches r=4": TriSketchMonitor(rank=4),
    "two-sided too r=2": TriSketchMonitor(rank=2, two_sided=True),
}


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("case", CASES)
def test_overhead_of_a_step(benchmark, case):
    shapes, hidden, batch, turns = CASES[case]
    rng = torch.Generator().manual_seed(0)
    model = MLP(hidden=hidden).build(shapes)
    optimizer = torch.optim.Adam(model.parameters())
    inputs = torch.randn(batch, *shapes.inputs, generator=rng)
    targets = torch.randint(shapes.outputs, (batch,), generator=rng)
    watchers = {
        name: recipe.build(model, batch, rng) if recipe else None
        for name, recipe in MONITORS.items()
    }
    for watcher in filter(None, watchers.values()):
        watcher.observe(False)

    def step(name, turn):
        watcher, recipe = watchers[name], MONITORS[name]
        observed = watcher is not None and turn % recipe.full_period() == 0
        if observed:
            watcher.observe(True)
        before = time.process_time()
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        if observed:
            watcher.estimates()
        optimizer.step()
        spent = time.process_time() - before
        if observed:
            watcher.observe(False)
        return spent

    def all_turns():
        return [{name: step(name, turn) for name in MONITORS} for turn in range(turns)]

    all_turns()
    spent = benchmark.pedantic(all_turns, rounds=1)
    for name in MONITORS:
        quartile = statistics.quantiles([turn[name] for turn in spent], n=4)[0]
        ratios = [turn[name] / turn["none"] for turn in spent]
        period = MONITORS[name].full_period() if MONITORS[name] else 1
        blocks = [statistics.mean(ratios[at : at + period]) for at in range(0, len(ratios), period)]
        benchmark.extra_info[name] = {
            "cpu_ms": round(1e3 * quartile, 3),
            "overhead_percent": round(100 * (statistics.median(blocks) - 1), 2),
        }
