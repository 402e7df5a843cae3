"""CPU time of Frequent Directions by solver, against the singular value decomposition.

All contestants take turns in one process on one thread, so that what slows the machine slows all
of them; ratios are of medians of process CPU time, and stand in `extra_info`. Run with `-s` for
the tables. Figures, no verdicts: the targets stand beside them.
"""

import statistics
import time

import pytest
import sketchbench_frequent_directions as fd
import torch
from sketchbench_frequent_directions.powers import power
from sketchbench_frequent_directions.sketch import absorb, empty
from sketchbench_frequent_directions.solvers.table import SOLVERS
from torch import Generator

TARGETS = {"gram": 0.9, "gram32": 0.45, "subspace": 0.12, "apply": 0.05}
RANK, BETA2, TURNS = 64, 0.99, 7
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_update_time_of_both_axes_of_a_matrix_gradient(benchmark, capsys):
    """Seconds of a 1024² gradient's two updates, and of applying both inverse roots."""
    rng, size = Generator().manual_seed(0), 1024
    sketches = {name: (empty(size, RANK), empty(size, RANK)) for name in SOLVERS}
    times = {name: [] for name in (*SOLVERS, "apply")}
    for _ in range(TURNS + 1):  # the first one starts from nothing, and isn't counted
        gradient = _gradient(size, rng)
        for name, solver in SOLVERS.items():
            start = time.process_time()
            sketches[name] = tuple(
                absorb(sketch, side, beta2=BETA2, tail_decay=BETA2, solver=solver)
                for sketch, side in zip(sketches[name], (gradient, gradient.mT), strict=True)
            )
            times[name].append(time.process_time() - start)
        start = time.process_time()
        _applied(*sketches["gram"], gradient)
        times["apply"].append(time.process_time() - start)
    benchmark.pedantic(_applied, (*sketches["gram"], gradient), rounds=3)
    medians = {name: statistics.median(seconds[1:]) for name, seconds in times.items()}
    with capsys.disabled():
        print(f"\n{size}² gradient, rank {RANK}, both axes, {TURNS} turns, one thread")
        print(f"{'':12}{'CPU ms':>9}{'x svd':>8}{'target':>8}{'left tail x svd':>17}")
        for name, median in medians.items():
            ratio = median / medians["svd"]
            benchmark.extra_info[name] = ratio
            tail = ""
            if name in sketches:
                tail = f"{float(sketches[name][0].tail / sketches['svd'][0].tail):.3f}"
            target = TARGETS.get(name, "")
            print(f"{name:12}{median * 1e3:9.1f}{ratio:8.3f}{target:>8}{tail:>17}")


@pytest.mark.parametrize("solver", SOLVERS)
def test_time_of_a_row_in_blocks_and_alone(benchmark, capsys, solver):
    """Seconds of a row of 4096 numbers: absorbed 64 at a time against one at a time."""
    size, alone, turns = 4096, 6, 5
    rows = torch.randn((turns + 1) * RANK, size, generator=Generator().manual_seed(0))
    rows = rows * torch.arange(1, size + 1) ** -0.5
    single = fd.FrequentDirections(rank=RANK, solver=solver, buffer=1).build(size, CPU)
    blocks = fd.FrequentDirections(rank=RANK, solver=solver).build(size, CPU)
    times = {"one": [], "block": []}
    for chunk in rows.split(RANK):
        start = time.process_time()
        blocks.update(chunk)
        times["block"].append((time.process_time() - start) / RANK)
        single.update(chunk[alone:])
        start = time.process_time()
        for row in chunk[:alone]:
            single.update(row[None])
        times["one"].append((time.process_time() - start) / alone)
    benchmark.pedantic(blocks.update, (chunk,), rounds=3)
    one, block = (statistics.median(seconds[1:]) * 1e6 for seconds in times.values())
    benchmark.extra_info["ratio"] = one / block
    with capsys.disabled():
        print(f"\n{solver:10} a row alone {one:8.0f} us, of a block {block:6.0f} us", end="")
        print(f": {one / block:5.1f} x (target 25)")


def _gradient(size: int, rng: Generator) -> torch.Tensor:
    """Return a gradient with 16 leading directions over noise, whose flat tail is the hard case."""
    signal = torch.randn(size, 16, generator=rng) @ torch.randn(16, size, generator=rng) / 8
    return 1e-2 * (signal + 0.3 * torch.randn(size, size, generator=rng))


def _applied(left, right, gradient):
    return power(right, power(left, gradient, -0.25, 1e-6).mT, -0.25, 1e-6).mT
