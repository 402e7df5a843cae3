"""CPU time of Walsh–Hadamard transforms and folded blocks, against a copy and a CountSketch.

All contestants take turns in one process on one thread, so that what slows the machine slows all
of them; ratios are of medians of process CPU time, and stand in `extra_info`. Run with `-s` for
the tables. Figures, no verdicts: the targets stand beside them.
"""

import statistics
import time

import pytest
import torch
from torch import Generator

from sketchbench.linalg import Workspace, block_fold, block_unfold, compiled, factor_order, fwht

TURNS = 7
CHUNK = 2**16  # of the streamed CountSketch
KERNELS = ("torch", "compiled") if compiled().used else ("torch",)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def medians(contestants):
    """Return each one's median seconds of CPU time; the first turn isn't counted."""
    times = {name: [] for name in contestants}
    for _ in range(TURNS + 1):
        for name, run in contestants.items():
            start = time.process_time()
            run()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(seconds[1:]) for name, seconds in times.items()}


@pytest.mark.parametrize("bits", [16, 20, 24, 26])
def test_transform_against_a_copy(benchmark, capsys, bits):
    """Nanoseconds an entry, share of the copy's bandwidth, and the error against float64."""
    size, space = 1 << bits, Workspace()
    x, out = torch.randn(size, generator=Generator().manual_seed(0)), torch.empty(size)
    exact = fwht(x.double(), kernel="torch")
    repeats = max(1, 2**20 // size)
    contestants = {"copy": lambda: [out.copy_(x) for _ in range(repeats)]}
    errors = {"copy": 0.0}
    for kernel in KERNELS:
        run = lambda kernel=kernel: fwht(x, space, out=out, kernel=kernel)
        contestants[kernel] = lambda run=run: [run() for _ in range(repeats)]
        errors[kernel] = float((run() - exact).norm() / exact.norm())
    del exact
    found = medians(contestants)
    benchmark.pedantic(contestants[KERNELS[-1]], rounds=3)
    with capsys.disabled():
        print(f"\n2^{bits}, float32, factors of {factor_order('cpu')}; {compiled().reason}")
        print(f"{'':10}{'ns/entry':>10}{'share of copy':>15}{'error':>10}")
        for name, median in found.items():
            share = found["copy"] / median
            benchmark.extra_info[name] = share
            entry = median / repeats / size * 1e9
            print(f"{name:10}{entry:10.2f}{share:15.1%}{errors[name]:10.1e}")
        print("targets at 2^24, compiled: 25%, 1e-6")


@pytest.mark.parametrize("out_size", [256, 4096, 65536])
def test_folded_blocks_against_a_streamed_count_sketch(benchmark, capsys, out_size):
    """Nanoseconds an entry at N = 2^24 in blocks of 2^16, and the ratio to the CountSketch."""
    size, block, rng = 2**24, 2**16, Generator().manual_seed(0)
    x = torch.randn(size, generator=rng)
    signs = torch.randint(2, (size,), generator=rng, dtype=torch.int8) * 2 - 1
    gaussians = torch.randn(size // block, block, generator=rng)
    order = torch.randperm(block // 16, generator=rng).int()
    places = torch.randint(out_size, (size,), generator=rng)
    space, out, back = Workspace(), torch.zeros(out_size), torch.empty(size)

    def count_sketch():
        for start in range(0, size, CHUNK):
            some = slice(start, start + CHUNK)
            out.index_add_(0, places[some], x[some] * signs[some])

    contestants = {"copy": lambda: back.copy_(x), "count-sketch": count_sketch}
    for kernel in KERNELS:
        options = {"workspace": space, "kernel": kernel}
        for name, runs in (("", None), (" permuted", order)):
            contestants[f"{kernel}{name}"] = lambda runs=runs, options=options: block_fold(
                x, signs, gaussians, out, runs, **options
            )
        contestants[f"{kernel} adjoint"] = lambda options=options: block_unfold(
            out, signs, gaussians, order, out=back, **options
        )
    found = medians(contestants)
    benchmark.pedantic(contestants[f"{KERNELS[-1]} permuted"], rounds=3)
    with capsys.disabled():
        print(f"\nN = 2^24 to {out_size} in blocks of 2^16; {compiled().reason}")
        print(f"{'':20}{'ns/entry':>10}{'share of copy':>15}{'x count-sketch':>16}")
        for name, median in found.items():
            ratio = median / found["count-sketch"]
            benchmark.extra_info[name] = ratio
            share = found["copy"] / median
            print(f"{name:20}{median / size * 1e9:10.2f}{share:15.1%}{ratio:16.2f}")
        print("target at D = 4096, compiled: 1.0 x the CountSketch")
