"""Bytes kept for the backward pass of the perceptron 784-1024x3-10, counted by hand, at r = 2."""

from itertools import pairwise

import pytest
import torch
from sketchbench_tri_sketch import EmaBasis, Unbiased
from torch import Generator, nn
from torch.nn import functional as F

from sketchbench.autodiff import Plain, seeded
from sketchbench.measure import LiveBytes
from sketchbench.protocols import Watched

SIZES = (784, 1024, 1024, 1024, 10)
K = 5  # columns of a sketch
FLOAT, INDEX = 4, 8  # bytes
LIMITS = {  # of the kept bytes with the targets, as torch's own hooks for saved tensors see them
    ("exact", 128): 1_579_012,
    ("exact", 1024): 12_632_068,
    ("unbiased", 128): 132_420,
    ("unbiased", 1024): 519_492,
    ("ema-basis", 128): 142_660,
    ("ema-basis", 1024): 601_412,
}
RECIPES = {"exact": None, "unbiased": Unbiased(), "ema-basis": EmaBasis()}


@pytest.fixture(scope="module")
def perceptron():
    with seeded(Generator().manual_seed(0)):
        layers = [layer for pair in pairwise(SIZES) for layer in (nn.Linear(*pair), nn.ReLU())]
        return nn.Sequential(*layers[:-1])


def parts(name, rows):
    """Return masks (or activations), what the loss keeps, and the sketch, in bytes."""
    hidden, inputs = sum(SIZES[1:-1]), sum(SIZES[:-1])
    loss = rows * SIZES[-1] * FLOAT + FLOAT + rows * INDEX  # log-softmax, sum of weights, targets
    if name == "exact":
        return {"activations": rows * hidden * FLOAT, "loss": loss, "sketch": 0}
    sketch = inputs * K * FLOAT  # X of unbiased, Q of ema-basis
    if name == "ema-basis":
        sketch += len(SIZES[:-1]) * rows * K * FLOAT  # B
    return {"masks": rows * hidden // 8, "loss": loss, "sketch": sketch}


def batch(rows):
    rng = Generator().manual_seed(1)
    return torch.randn(rows, SIZES[0], generator=rng), torch.randint(10, (rows,), generator=rng)


def built(name, model, rows):
    recipe = RECIPES[name]
    return recipe.build(model, rows, Generator().manual_seed(0)) if recipe else Plain(model)


@pytest.mark.parametrize(("name", "rows"), LIMITS)
def test_the_parts_add_up_to_the_numbers_to_reach(name, rows):
    assert sum(parts(name, rows).values()) == LIMITS[name, rows]


@pytest.mark.parametrize(("name", "rows"), LIMITS)
def test_saved_tensors_are_the_parts(perceptron, name, rows):
    """Each storage once, without parameters, buffers and the model's inputs."""
    model, (inputs, targets) = built(name, perceptron, rows).model, batch(rows)
    owned = {t.untyped_storage()._cdata for t in [*model.parameters(), *model.buffers(), inputs]}
    found = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        found[storage._cdata] = storage
        return tensor.detach()

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        graph = F.cross_entropy(model(inputs), targets)
    kept = sum(storage.nbytes() for key, storage in found.items() if key not in owned)
    del graph
    assert kept == sum(parts(name, rows).values())


@pytest.mark.parametrize(("name", "rows"), LIMITS)
def test_live_bytes_are_the_parts(perceptron, name, rows):
    """The loss itself is alive as well, and targets are inputs, not kept."""
    sketched, (inputs, targets) = built(name, perceptron, rows), batch(rows)
    watching = LiveBytes(torch.device("cpu"), Watched(sketched.model, inputs=(inputs, targets)))
    for _ in range(2):  # the first one in a process sees what torch sets up once
        with watching:
            sketched.accumulate(inputs, targets, F.cross_entropy)
    expected = parts(name, rows)
    kept = watching.footprint.kept
    assert kept.get("sketches", 0) == expected["sketch"]
    assert sum(kept.values()) == sum(expected.values()) - rows * INDEX + FLOAT


def test_what_lives_from_step_to_step_is_the_sketches_of_the_ema(perceptron):
    def state(name):
        model = built(name, perceptron, 128).model
        return sum(buffer.untyped_storage().nbytes() for buffer in model.buffers())

    assert state("unbiased") == 0
    assert state("ema-basis") == sum(SIZES[:-1]) * K * FLOAT == 77_120


@pytest.mark.parametrize("recipe", [Unbiased(), EmaBasis(), EmaBasis(beta=0.0)])
@pytest.mark.parametrize("width", [64, 1024])
def test_break_even_is_the_least_batch_that_keeps_less(recipe, width):
    def saved(rows):
        columns = rows if recipe.name == "ema-basis" else 0
        state = width if getattr(recipe, "beta", 0) else 0
        return FLOAT * (rows * width - K * (columns + width + state)) - rows * width / 8

    least = recipe.break_even(width)
    assert saved(least) > 0 >= saved(least - 1)


def test_a_basis_as_wide_as_the_layer_never_saves():
    assert EmaBasis(columns=64).break_even(64) is None
