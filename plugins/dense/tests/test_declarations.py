"""What the dense plugin declares of its memory, where the laws don't look."""

import copy

import pytest
import sketchbench_dense as dense
import torch
from torch import Generator, nn
from torch.nn import functional as F

from sketchbench.autodiff import Plain
from sketchbench.measure import LiveBytes, state_bytes
from sketchbench.protocols import Watched

CPU = torch.device("cpu")
needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")


def kept(recipe, rows, width=16):
    torch.manual_seed(0)
    layers = [layer for _ in range(5) for layer in (nn.Linear(width, width), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(width, 3))
    inputs, targets = torch.randn(rows, width), torch.zeros(rows, dtype=torch.int64)
    sketched = recipe.build(model, rows, Generator().manual_seed(0)) if recipe else Plain(model)
    with LiveBytes(CPU, Watched(model=sketched.model, inputs=(inputs, targets))) as watching:
        sketched.accumulate(inputs, targets, F.cross_entropy)
    return sum(watching.footprint.kept.values())


@pytest.mark.parametrize("recipe", [dense.Checkpoint(), dense.ZeroGradient()])
@pytest.mark.parametrize("rows", [2, 64])
def test_what_claims_no_saving_after_a_relu_keeps_what_exact_training_does(recipe, rows):
    assert recipe.break_even(16) is None
    assert kept(recipe, rows) == kept(None, rows)


def test_random_gradients_claim_no_saving():
    assert dense.RandomGradient().break_even(16) is None
    assert kept(dense.RandomGradient(), 8) >= kept(None, 8)


@pytest.mark.parametrize(
    ("recipe", "rows"),
    [
        (dense.Checkpoint(every=2), 1),
        (dense.Checkpoint(every=50), 1),
        (dense.MicroBatch(rows=7), 8),
        (dense.MicroBatch(rows=7, checkpoint=1), 8),
        (dense.MicroBatch(rows=7, checkpoint=2), 1),
        (dense.MicroBatch(bytes=6400), 101),
        (dense.MicroBatch(bytes=6400, checkpoint=2), 1),
    ],
    ids=lambda v: v.label() if hasattr(v, "label") else str(v),
)
def test_from_its_break_even_on_a_recipe_keeps_less(recipe, rows):
    assert recipe.break_even(16) == rows
    for batch in (rows, rows + 1, 5 * rows):
        assert kept(recipe, batch) < kept(None, batch)


def test_micro_batches_save_nothing_below_their_break_even():
    assert kept(dense.MicroBatch(rows=7), 7) == kept(None, 7)


def test_step_counters_are_of_torchs_scalar_type():
    try:
        torch.set_default_dtype(torch.float64)
        params = [nn.Parameter(torch.ones(3))]
        optimizer = dense.Adam().build(params)
        params[0].grad = torch.ones(3)
        optimizer.step()
        assert dense.Adam().state_bytes(params) == state_bytes(optimizer, CPU)
        assert dense.Adam().state_bytes(params)["rest"] == 8
    finally:
        torch.set_default_dtype(torch.float32)


def test_step_counters_are_not_on_an_accelerator():
    params = [nn.Parameter(torch.ones(3, 2, device="meta"))]
    assert dense.AdamW().state_bytes(params) == {"momentum": 24, "second_moment": 24, "rest": 0}


def test_adafactor_takes_leading_dimensions_for_a_batch():
    params = [nn.Parameter(torch.ones(shape)) for shape in ((5, 2, 3, 4), (7,), ())]
    assert dense.Adafactor().state_bytes(params)["second_moment"] == 4 * (5 * 2 * (3 + 4) + 7 + 1)


@needs_muon
def test_a_copy_of_muon_has_its_parts():
    params = [nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3))]
    optimizer = dense.Muon().build(params)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    expected = {"momentum": 4 * (6 + 3), "second_moment": 4 * 3, "rest": 4}
    assert (
        state_bytes(copy.deepcopy(optimizer), CPU) == expected == dense.Muon().state_bytes(params)
    )
