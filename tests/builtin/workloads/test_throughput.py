"""Throughput: what is measured, in which region, and what is derived from it."""

from contextlib import suppress

import pytest
import torch
from pydantic import ValidationError

from sketchbench import Field, GradientSketch, Missing, Skip
from sketchbench.builtin import AdjointTime, CopyTime, StepTime, Throughput
from sketchbench.builtin.metrics.memory import PeakBytes, SketchBytes
from sketchbench.builtin.metrics.throughput import CopyShare, NsPerElement
from sketchbench.measure import labelling
from sketchbench.registry import Registry
from sketchbench.run import Enough, Run, Wanted

CPU = torch.device("cpu")


class Dense(GradientSketch):
    """A dense matrix, kept, that can take vectors in pieces."""

    name = "test-dense"
    streamed: bool = Field(True)

    def build(self, size, rng, device):
        CALLS.clear()
        return (Streamed if self.streamed else Whole)(torch.randn(4, size, generator=rng))


class Whole:
    def __init__(self, matrix):
        self.matrix, self.shape = matrix, tuple(matrix.shape)

    def apply(self, x):
        CALLS.append(("apply", tuple(x.shape), x.dtype))
        return x.float() @ self.matrix.mT

    def adjoint(self, y):
        CALLS.append(("adjoint", tuple(y.shape), y.dtype))
        return y @ self.matrix


class Streamed(Whole):
    def accumulate(self, product, x, start):
        CALLS.append(("accumulate", tuple(x.shape), start))
        product += x.float() @ self.matrix[:, start : start + x.shape[-1]].mT


CALLS = []


def ran(*metrics, stage="result", **fields):
    workload = Throughput(**({"sketch": Dense(), "size": 100, "repeats": 5} | fields))
    run = Run(CPU, 0, [Wanted(metric, at) for metric, at in metrics], stage=stage)
    with labelling(), suppress(Enough):
        workload.run(run)
    return {(m.metric, m.where): m for m in run.measurements()}


def test_copies_products_and_adjoints_take_turns_and_are_timed():
    found = ran((StepTime(), "step"), (AdjointTime(), "adjoint"), (CopyTime(), "copy"))
    assert len(found) == 3
    assert all(m.parts["occurrences"] == 3 and m.value > 0 for m in found.values())
    assert [call[0] for call in CALLS] == ["apply", "adjoint"] * 5


def test_batches_and_precisions_reach_the_sketch():
    ran(batch=3, dtype="bfloat16", adjoint=False)
    assert len(CALLS) == 5
    assert set(CALLS) == {("apply", (3, 100), torch.bfloat16)}


def test_pieces_cover_the_vector_in_order_and_add_up():
    ran(piece=30, repeats=1)
    assert CALLS[:-1] == [
        ("accumulate", (1, n), at) for n, at in ((30, 0), (30, 30), (30, 60), (10, 90))
    ]
    workload, run = Throughput(sketch=Dense(), size=100, piece=30, batch=2), Run(CPU, 0)
    sketch, x = Dense().build(100, run.rng("sketch"), CPU), torch.ones(2, 100)
    torch.testing.assert_close(workload._product(sketch, x), sketch.apply(x))


def test_a_sketch_that_takes_no_pieces_is_skipped():
    with pytest.raises(Skip, match="'test-dense' takes no vector in pieces"):
        ran(sketch=Dense(streamed=False), piece=10)


def test_pieces_are_no_longer_than_the_vector():
    with pytest.raises(ValidationError, match="piece 200 is more than size 100"):
        Throughput(sketch=Dense(), size=100, piece=200)


def test_memory_is_that_of_the_sketch_the_vectors_and_the_product():
    found = ran((SketchBytes(), "step"), (PeakBytes(), "step"), stage="audit", adjoint=False)
    held = 4 * 4 * 100
    assert found["sketch_bytes", "step"].value == held
    peak = found["peak_bytes", "step"]
    assert peak.parts["inputs"] == 4 * 100
    assert peak.parts["sketches"] == held
    assert peak.value < held + 4 * 100 + 4 * 4 * 4  # a product or two, and nothing of N entries


class Cell:
    def __init__(self, config=None, **values):
        self.config = {"workload": {"size": 1000, "batch": 2}} if config is None else config
        self.values = values

    def value(self, metric, where=None):
        assert metric == f"{where}_time"
        return self.values.get(where)


def test_time_an_entry_and_share_of_the_copy_bandwidth():
    cell = Cell(step=4e-6, adjoint=8e-6, copy=1e-6)
    assert NsPerElement().derive(cell) == pytest.approx(2)
    assert NsPerElement(product="adjoint").derive(cell) == pytest.approx(4)
    assert CopyShare().derive(cell) == pytest.approx(0.25)
    assert CopyShare(product="adjoint").derive(cell) == pytest.approx(0.125)
    assert CopyShare(product="adjoint").needs == ("adjoint_time", "copy_time")


def test_what_was_not_measured_is_not_derived():
    assert NsPerElement().derive(Cell(copy=1.0)) is None
    assert CopyShare().derive(Cell(step=1.0)) is None
    with pytest.raises(Missing, match="no `size` and `batch`"):
        NsPerElement().derive(Cell(config={"workload": {}}, step=1.0))


@pytest.mark.parametrize("name", sorted(Registry.load().classes["gradient_sketch"]))
def test_what_a_sketch_declares_to_hold_is_what_is_counted(name):
    """Its `state_bytes`, whatever drew them: memory that torch doesn't allocate isn't counted."""
    sketch = Registry.load().lookup("gradient_sketch", name)(out_size=64)
    declared = sketch.state_bytes(1000)
    if declared is None:
        pytest.skip(f"{name} declares no bytes")
    metrics = {"stage": "audit", "adjoint": False}
    try:
        found = ran((SketchBytes(), "step"), sketch=sketch, size=1000, **metrics)
    except Skip as reason:
        pytest.skip(str(reason))
    counted = found["sketch_bytes", "step"].value if found else 0
    assert counted == declared
