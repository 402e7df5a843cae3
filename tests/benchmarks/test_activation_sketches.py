"""CPU time of a training step with sketches against exact training and micro-batching.

Forward and backward of the perceptron 784-1024x3-10 with cross-entropy, without an optimizer. All
methods take turns, so that what slows the machine slows all of them; ratios are of medians of
process CPU time, and stand in `extra_info`. Run with `-s` for the table. Figures, no verdicts.
"""

import statistics
import time
from itertools import pairwise

import pytest
import sketchbench_dense as dense
import sketchbench_tri_sketch as tri_sketch
import torch
from torch import Generator, nn
from torch.nn import functional as F

from sketchbench.autodiff import Plain, seeded
from sketchbench.measure import LiveBytes
from sketchbench.protocols import Watched

SIZES = (784, 1024, 1024, 1024, 10)
SKETCHES = {
    "unbiased": tri_sketch.Unbiased(),
    "unbiased ±1": tri_sketch.Unbiased(distribution="rademacher"),
    "ema-basis": tri_sketch.EmaBasis(),
    "ema-basis 0": tri_sketch.EmaBasis(beta=0.0),
}
MICRO_BATCHES = {128: (8, 16), 1024: (32, 64)}  # rows that keep about as many bytes
TURNS = {128: 60, 1024: 15}


@pytest.mark.parametrize("rows", [128, 1024])
def test_step_time_of_activation_sketches(benchmark, capsys, rows):
    """Seconds of a step and bytes that it keeps, by method, as ratios to exact training."""
    batch = _batch(rows)
    steps = {"exact": Plain(_mlp())}
    rivals = {f"micro-batch {size}": dense.MicroBatch(rows=size) for size in MICRO_BATCHES[rows]}
    for label, recipe in {**SKETCHES, **rivals}.items():
        steps[label] = recipe.build(_mlp(), rows, Generator().manual_seed(0))
    kept = {label: _kept(sketched, batch) for label, sketched in steps.items()}
    benchmark.pedantic(steps["exact"].accumulate, (*batch, F.cross_entropy), rounds=3)
    times = {label: [] for label in steps}
    for _ in range(TURNS[rows]):
        for label, sketched in steps.items():
            times[label].append(_seconds(sketched, batch))
    medians = {label: statistics.median(seconds) for label, seconds in times.items()}
    with capsys.disabled():
        print(f"\nbatch {rows}, {torch.get_num_threads()} threads")
        print(f"{'':16}{'kept bytes':>12}{'state bytes':>12}{'CPU ms':>9}{'x exact':>9}")
        for label, median in medians.items():
            ratio = median / medians["exact"]
            activations, state = kept[label]
            benchmark.extra_info[label] = {"ratio": ratio, "kept": activations, "state": state}
            print(f"{label:16}{activations:12,}{state:12,}{median * 1e3:9.2f}{ratio:9.2f}")


def _mlp():
    with seeded(Generator().manual_seed(0)):
        pairs = pairwise(SIZES)
        layers = [layer for pair in pairs for layer in (nn.Linear(*pair), nn.ReLU())]
        return nn.Sequential(*layers[:-1])


def _batch(rows):
    rng = Generator().manual_seed(1)
    return torch.randn(rows, SIZES[0], generator=rng), torch.randint(10, (rows,), generator=rng)


def _seconds(sketched, batch):
    sketched.model.zero_grad(set_to_none=True)
    start = time.process_time()
    sketched.accumulate(*batch, F.cross_entropy)
    return time.process_time() - start


def _kept(sketched, batch):
    """Return the bytes kept for the backward pass, and those that live from step to step."""
    watching = LiveBytes(torch.device("cpu"), Watched(model=sketched.model, inputs=batch))
    for _ in range(2):  # the first one in a process sees what torch sets up once
        with watching:
            sketched.accumulate(*batch, F.cross_entropy)
    state = sum(buffer.untyped_storage().nbytes() for buffer in sketched.model.buffers())
    return sum(watching.footprint.kept.values()), state
