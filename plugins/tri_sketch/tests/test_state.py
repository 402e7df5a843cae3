"""What lives from step to step is in the state dict, and training goes on from it to the bit."""

import copy
import io

import pytest
import torch
from sketchbench_tri_sketch import EmaBasis, Unbiased
from sketchbench_tri_sketch.block import Sketched
from torch import Generator, nn
from torch.nn import functional as F

from sketchbench import Event
from sketchbench.autodiff import seeded

RECIPES = [Unbiased(rank=1), EmaBasis(rank=1), EmaBasis(rank=1, beta=0.0, mean_column=True)]
named = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.label())


def perceptron():
    with seeded(Generator().manual_seed(0)):
        return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


def built(recipe, seed=0):
    return recipe.build(perceptron(), 5, Generator().manual_seed(seed))


def step(sketched, seed):
    rng = Generator().manual_seed(seed)
    inputs, targets = torch.randn(5, 8, generator=rng), torch.randint(3, (5,), generator=rng)
    sketched.model.zero_grad()
    sketched.accumulate(inputs, targets, F.cross_entropy)
    return [p.grad.clone() for p in sketched.model.parameters()]


def saved(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@named
def test_a_checkpoint_goes_on_to_the_bit(recipe):
    first, second = built(recipe), built(recipe, seed=1)
    for seed in range(3):
        step(first, seed)
        step(second, seed + 7)
    second.model.load_state_dict(saved(first.model.state_dict()))
    for seed in range(3, 5):
        for ours, theirs in zip(step(first, seed), step(second, seed), strict=True):
            assert torch.equal(ours, theirs)


@named
def test_a_checkpoint_of_another_rank_brings_its_own(recipe):
    first, second = built(recipe), built(recipe.model_copy(update={"rank": 3}))
    step(first, 0)
    second.model.load_state_dict(saved(first.model.state_dict()))
    for ours, theirs in zip(step(first, 1), step(second, 1), strict=True):
        assert torch.equal(ours, theirs)


@named
def test_a_copy_goes_its_own_way(recipe):
    first = built(recipe)
    step(first, 0)
    second = Sketched(copy.deepcopy(first.model))
    ahead = [step(first, seed) for seed in (1, 2)]
    for seed, grads in zip((1, 2), ahead, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(step(second, seed), grads, strict=True))


@named
def test_evaluation_leaves_the_state_as_it_is(recipe):
    sketched = built(recipe)
    step(sketched, 0)
    before = saved(sketched.model.state_dict())
    sketched.model.eval()
    step(sketched, 1)
    after = sketched.model.state_dict()
    assert before.keys() == after.keys()
    for name, value in before.items():
        same = torch.equal if isinstance(value, torch.Tensor) else lambda a, b: a == b
        assert same(value, after[name]), name


@named
def test_a_new_rank_starts_every_reading_anew(recipe):
    sketched = built(recipe)
    step(sketched, 0)
    readings = [block.reading for block in (sketched.model[0], sketched.model[2])]
    seeds = [reading.seed for reading in readings]
    for reading in readings:
        reading.resize(2)
    assert [reading.steps for reading in readings] == [0, 0]
    assert all(reading.seed != seed for reading, seed in zip(readings, seeds, strict=True))
    assert all(not buffer.any() for reading in readings for buffer in reading.buffers())
    assert all(grad.isfinite().all() for grad in step(sketched, 1))


def test_a_controller_is_asked_after_each_epoch():
    class Grower:
        def decide(self, loss, readings):
            for reading in readings:
                reading.resize(4)
            return [Event("rank", {"to": 4, "layers": len(readings), "loss": loss})]

    sketched = Sketched(built(Unbiased()).model, Grower())
    (event,) = sketched.end_epoch(0.5)
    assert event.details == {"to": 4, "layers": 2, "loss": 0.5}
    assert sketched.model[0].reading.k == 9
    assert tuple(built(Unbiased()).end_epoch(0.5)) == ()
