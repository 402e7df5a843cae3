"""CPU time of `block-affd` against streamed CountSketch and literal AFFD, and by N and D.

All contestants take turns in one process on one thread, so that what slows the machine slows all
of them; ratios are of medians of process CPU time, and stand in `extra_info`. Run with `-s` for
the tables. Figures, no verdicts: the targets stand beside them.
"""

import math
import statistics
import time

import pytest
import torch
from sketchbench_affd import AFFD, BlockAFFD
from sketchbench_afjl import AFJL, SRHT
from sketchbench_qk import QK, QKListing2
from torch import Generator

from sketchbench.linalg import Workspace, adversarial, compiled, fwht

CPU = torch.device("cpu")
CHUNK = 2**16  # entries that the streamed CountSketch takes at a time
TURNS = 3
LARGE, OUT = 2**24, 2**12


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class CountSketch:
    """Buckets and signs (N,), added by `index_add_` in chunks that stay in the cache."""

    def __init__(self, size: int, out_size: int) -> None:
        rng = Generator().manual_seed(0)
        self.buckets = torch.randint(out_size, (size,), generator=rng, dtype=torch.int32)
        self.signs = torch.randint(0, 2, (size,), generator=rng, dtype=torch.int8).mul_(2).sub_(1)
        self.out_size = out_size

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        product = x.new_zeros(self.out_size)
        parts = (x, self.signs, self.buckets)
        for entries, signs, buckets in zip(*(p.split(CHUNK) for p in parts), strict=True):
            product.index_add_(0, buckets, entries * signs)
        return product


def built(recipe, size):
    return recipe.build(size, Generator().manual_seed(0), CPU)


def medians(sketches, x, turns=TURNS):
    """Return the median CPU seconds of each; the first turn isn't counted."""
    times = {name: [] for name in sketches}
    for turn in range(turns + 1):
        for name, sketch in sketches.items():
            start = time.process_time()
            sketch.apply(x[: sketch.shape[1]] if hasattr(sketch, "shape") else x)
            if turn:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def shown(benchmark, capsys, title, rows):
    """Print rows of (name, value, …) and keep the last column as figures."""
    with capsys.disabled():
        print(f"\n{title}; kernels: {compiled().reason}")
        for name, *values in rows:
            print(f"{name:36}" + "".join(f"{value:>12.3g}" for value in values))
            benchmark.extra_info[name] = values[-1]


def test_one_vector_against_its_rivals(benchmark, capsys):
    """2²⁴ entries to 2¹²: ms, ns an entry, times CountSketch (target: 1.0 compiled)."""
    x = torch.randn(LARGE, generator=Generator().manual_seed(1))
    sketches = {"count-sketch, streamed": CountSketch(LARGE, OUT)}
    kernels = ["torch", "compiled"] if compiled().used else ["torch"]
    for kernel in kernels:
        sketches[f"block-affd, {kernel}"] = built(BlockAFFD(out_size=OUT, kernel=kernel), LARGE)
    sketches["qk, 3 factors"] = built(QK(out_size=OUT, factors=3), LARGE)
    found = medians(sketches, x)
    benchmark.pedantic(sketches["block-affd, torch"].apply, (x,), rounds=1)
    base = found["count-sketch, streamed"]
    rows = [(n, s * 1e3, s / LARGE * 1e9, s / base) for n, s in found.items()]
    shown(
        benchmark, capsys, "N = 2^24, D = 2^12, one thread: ms, ns an entry, x count-sketch", rows
    )


class OneTransform:
    """fold_D(G H B x), of the whole vector: literal AFFD without its second transform."""

    def __init__(self, size: int, out_size: int, workspace: Workspace | None) -> None:
        rng = Generator().manual_seed(0)
        self.signs = torch.randint(0, 2, (size,), generator=rng, dtype=torch.int8).mul_(2).sub_(1)
        self.gaussians = torch.randn(size, generator=rng)
        self.out_size, self.workspace = out_size, workspace
        self.held = None if workspace is None else torch.empty(2, size)

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        signed, mixed = (None, None) if self.held is None else self.held
        signed = torch.mul(x, self.signs, out=signed)
        mixed = fwht(signed, self.workspace, out=mixed, kernel="torch").mul_(self.gaussians)
        return mixed.view(-1, self.out_size).sum(0)


def test_what_makes_it_faster_than_literal_affd(benchmark, capsys):
    """Factor by factor at 2²⁴ (target: 10 or more in all, in pure torch)."""
    x = torch.randn(LARGE, generator=Generator().manual_seed(1))
    makers = {
        "literal, factors of 1024": lambda: built(AFFD(out_size=OUT), LARGE),
        "literal, factors of 16": lambda: built(AFFD(out_size=OUT, factor_size=16), LARGE),
        "one transform and a fold": lambda: OneTransform(LARGE, OUT, None),
        "with buffers that are reused": lambda: OneTransform(LARGE, OUT, Workspace()),
        "in blocks of 2^16: block-affd": lambda: built(
            BlockAFFD(out_size=OUT, kernel="torch"), LARGE
        ),
    }
    sketches = {name: make() for name, make in makers.items()}
    found = medians(sketches, x, turns=2)
    benchmark.pedantic(sketches["in blocks of 2^16: block-affd"].apply, (x,), rounds=1)
    rows, before = [], None
    for name, seconds in found.items():
        rows.append(
            (
                name,
                seconds * 1e3,
                (before or seconds) / seconds,
                found["literal, factors of 1024"] / seconds,
            )
        )
        before = seconds
    shown(benchmark, capsys, "N = 2^24, D = 2^12: ms, x faster than the last, than the first", rows)


@pytest.mark.parametrize("kernel", ["torch", "compiled"])
def test_time_does_not_depend_on_d(benchmark, capsys, kernel):
    """D from 2⁸ to 2¹⁶ at N = 2²² (target: 1.3 between the least and the most)."""
    if kernel == "compiled" and not compiled().used:
        pytest.skip(compiled().reason)
    size = 2**22
    x = torch.randn(size, generator=Generator().manual_seed(1))
    sketches = {
        f"D = 2^{bits}": built(BlockAFFD(out_size=2**bits, kernel=kernel), size)
        for bits in (8, 10, 12, 14, 16)
    }
    found = medians(sketches, x)
    benchmark.pedantic(sketches["D = 2^12"].apply, (x,), rounds=1)
    least = min(found.values())
    rows = [(name, seconds * 1e3, seconds / least) for name, seconds in found.items()]
    shown(benchmark, capsys, f"block-affd, {kernel}, N = 2^22: ms, x the least", rows)


@pytest.mark.parametrize("kernel", ["torch", "compiled"])
def test_time_is_linear_in_n(benchmark, capsys, kernel):
    """Log-log slope from 2²⁰ to 2²⁶ at D = 2¹² (target: 1 ± 0.1)."""
    if kernel == "compiled" and not compiled().used:
        pytest.skip(compiled().reason)
    sizes = [2**bits for bits in (20, 22, 24, 26)]
    x = torch.randn(sizes[-1], generator=Generator().manual_seed(1))
    sketch = built(BlockAFFD(out_size=OUT, kernel=kernel), sizes[-1])

    class Slice:
        def __init__(self, size: int) -> None:
            self.shape = (OUT, size)

        def apply(self, part: torch.Tensor) -> None:
            sketch.accumulate(torch.zeros(OUT), part, 0)

    found = medians({f"N = {size}": Slice(size) for size in sizes}, x, turns=2)
    benchmark.pedantic(sketch.apply, (x,), rounds=1)
    logs = [(math.log(n), math.log(s)) for n, s in zip(sizes, found.values(), strict=True)]
    mean = [statistics.mean(axis) for axis in zip(*logs, strict=True)]
    slope = sum((a - mean[0]) * (b - mean[1]) for a, b in logs) / sum(
        (a - mean[0]) ** 2 for a, _ in logs
    )
    rows = [
        (name, seconds * 1e3, seconds / size * 1e9)
        for (name, seconds), size in zip(found.items(), sizes, strict=True)
    ]
    title = f"block-affd, {kernel}, D = 2^12: ms, ns an entry; log-log slope {slope:.3f}"
    benchmark.extra_info["slope"] = slope
    shown(benchmark, capsys, title, rows)


@pytest.mark.parametrize(("out_size", "draws"), [(256, 2000), (1024, 500)])
def test_kappa_on_adversarial_inputs(benchmark, capsys, out_size, draws):
    """D·Var‖Sx‖²/2 at N = 2¹⁴ beside the declared one: means over draws, and standard errors.

    Of the exact conditional κ where there is one, else of D·(‖Sx‖² − 1)²/2.
    """
    size = 2**14
    inputs = adversarial(size, out_size)
    x = torch.stack(list(inputs.values()))
    recipes = {
        "affd": AFFD(out_size=out_size),
        "affd, not permuted": AFFD(out_size=out_size, permuted=False),
        "block-affd": BlockAFFD(out_size=out_size),
        "block-affd, not permuted": BlockAFFD(out_size=out_size, permuted=False),
        "block-affd, M = D": BlockAFFD(out_size=out_size, block_size=out_size),
        "srht": SRHT(out_size=out_size),
        "afjl": AFJL(out_size=out_size),
        "qk": QK(out_size=out_size),
        "qk, 3 factors": QK(out_size=out_size, factors=3),
        "qk-listing2": QKListing2(out_size=out_size),
    }
    benchmark.pedantic(built(recipes["block-affd"], size).apply, (x[0].float(),), rounds=1)
    with capsys.disabled():
        print(f"\nN = 2^14, D = {out_size}, {draws} draws (conditional κ: {draws // 10})")
        print(f"{'':26}{'declared':>10}" + "".join(f"{name:>16}" for name in inputs))
        for name, recipe in recipes.items():
            found = []
            for seed in range(draws):
                sketch = recipe.build(size, Generator().manual_seed(seed), CPU)
                if hasattr(sketch, "conditional_kappa"):
                    found.append(torch.tensor([sketch.conditional_kappa(v) for v in x]))
                    if seed + 1 == draws // 10:
                        break
                else:
                    norms = sketch.apply(x.float()).double().square().sum(1)
                    found.append(out_size * (norms - 1).square() / 2)
            values = torch.stack(found).double()
            errors = values.std(0) / len(values) ** 0.5
            guarantee = recipe.guarantee(size)
            cells = [
                f"{float(mean):9.2f}±{float(error):<5.2g}{'!' if key in guarantee.breaks else ' '}"
                for key, mean, error in zip(inputs, values.mean(0), errors, strict=True)
            ]
            print(f"{name:26}{guarantee.kappa:10.2f}" + "".join(cells))
            benchmark.extra_info[name] = float(values.mean(0).max())
