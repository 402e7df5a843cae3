"""Directions of distortion: adversarial inputs by name, and gradients of examples."""

import math

import pytest
import torch
from pydantic import ValidationError

from sketchbench import Field, GradientSketch, Missing, Skip
from sketchbench.autodiff import flatten, seeded
from sketchbench.builtin import MLP, Digits, Distortion
from sketchbench.builtin.metrics.distortion import ConditionalKappa, FailureRate, Kappa
from sketchbench.builtin.workloads.directions import trained
from sketchbench.linalg import adversarial
from sketchbench.run import Run

CPU = torch.device("cpu")
SMALL = {"task": Digits(train_limit=20, test_limit=10), "model": MLP(hidden=(4,))}
PARAMETERS = 64 * 4 + 4 + 4 * 10 + 10


class Fold(GradientSketch):
    """Random signs, then entry i goes to i mod D: two entries at a distance of D collide."""

    name = "test-fold"
    out_size: int = Field(16)
    tells: bool = Field(False)

    def build(self, size, rng, device):
        signs = torch.randint(2, (size,), generator=rng) * 2.0 - 1
        return (Telling if self.tells else Folded)(signs, self.out_size)


class Folded:
    def __init__(self, signs, out_size):
        self.signs, self.shape = signs, (out_size, len(signs))

    def apply(self, x):
        padded = torch.nn.functional.pad(x * self.signs, (0, -x.shape[-1] % self.shape[0]))
        return padded.unflatten(-1, (-1, self.shape[0])).sum(-2)


class Telling(Folded):
    def conditional_kappa(self, x):
        return float(x.abs().max())


class Named(Fold):
    """Keeps what names it was built for."""

    name = "test-named"
    seen: tuple[str, ...] = Field(())

    def build_named(self, sizes, rng, device):
        NAMES.append(dict(sizes))
        return self.build(sum(sizes.values()), rng, device)


NAMES = []


class Scripted(Run):
    def __init__(self, seed=0):
        super().__init__(CPU, seed)
        self.delivered = {}

    def deliver(self, name, outcome, at=None):
        self.delivered[name] = outcome


def ran(seed=0, **fields):
    run = Scripted(seed)
    Distortion(**({"sketch": Fold(), "size": 100, "vectors": 3, "repeats": 4} | fields)).run(run)
    return run


def test_a_named_direction_is_that_vector_and_it_alone_is_judged():
    run = ran(directions="half-pair")
    vectors, norms = run.watched.inputs[0], run.delivered["norms"]
    torch.testing.assert_close(vectors[0].double(), adversarial(100, 16)["half-pair"])
    assert vectors.shape == (3, 100)
    assert norms.exact.shape == norms.approx.shape == (4, 1)
    assert (norms.names, norms.out_size) == (("half-pair",), 16)
    assert run.delivered["inner"].exact.shape == (4, 2)


def test_all_adversarial_inputs_are_judged_under_their_names():
    run = ran(directions="adversarial", size=200)
    norms, inputs = run.delivered["norms"], adversarial(200, 16)
    assert norms.names == tuple(inputs)
    torch.testing.assert_close(run.watched.inputs[0].double(), torch.stack([*inputs.values()]))
    count = len(inputs)
    assert run.delivered["inner"].exact.shape == (4, count * (count - 1) // 2)


def test_a_fold_fails_on_pairs_that_collide_and_nowhere_else_of_two_entries():
    # ‖Sx‖² is 0 or 2 in half of the draws each: Var = 1, κ = D/2, and every draw fails.
    norms = ran(directions="adversarial", repeats=400, size=200).delivered["norms"]
    assert Kappa(input="pair")(norms) == pytest.approx(16 / 2, abs=4.5 * 16 / 2 / 20)
    assert FailureRate(input="pair")(norms) == 1
    for name in ("axis", "half-pair"):
        assert Kappa(input=name)(norms) == pytest.approx(0, abs=1e-10)
        assert FailureRate(input=name)(norms) == 0


def test_an_input_that_does_not_fit_skips_the_cell():
    with pytest.raises(Skip, match="'pair' for D = 16 doesn't fit into N = 10"):
        ran(directions="pair", size=10)


def test_conditional_variances_are_those_of_the_sketches_drawn():
    run = ran(directions="ends", sketch=Fold(tells=True))
    found = run.delivered["conditional"]()
    assert found.kappas.shape == (4, 1)
    assert ConditionalKappa()(found) == pytest.approx(math.sqrt(0.5))
    told = ran(directions="ends").delivered["conditional"]()
    assert isinstance(told, Missing)
    assert "'test-fold' doesn't tell" in str(told)


# ---------------------------------------------------------------- gradients


def test_gradients_are_those_of_examples_and_of_length_one():
    """Truth: autograd, an example at a time."""
    run = ran(directions="gradients", sketch=Named(), **SMALL)
    found = run.watched.inputs[0]
    assert found.shape == (3, PARAMETERS)
    task, rng = SMALL["task"], Run(CPU, 0)
    with seeded(rng.rng("weights")):
        model = SMALL["model"].build(task.shapes)
    data = task.load("train")
    assert NAMES[-1] == {name: value.numel() for name, value in model.named_parameters()}
    for row, at in zip(found, torch.randperm(20, generator=rng.rng("examples")), strict=False):
        model.zero_grad()
        task.loss(model(data.inputs[at][None]), data.targets[at][None]).backward()
        truth = flatten(parameter.grad for parameter in model.parameters())
        torch.testing.assert_close(row, truth / truth.norm(), rtol=1e-4, atol=1e-6)


def test_training_comes_before_the_gradients(sgd):
    task, model = SMALL["task"], SMALL["model"]
    losses = {}
    for steps in (0, 30):
        built = trained(Run(CPU, 0), task, model, sgd(), steps)
        data = task.load("train")
        assert not built.training
        losses[steps] = task.loss(built(data.inputs), data.targets).item()
    assert losses[30] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"directions": "gradients"}, "directions 'gradients' need a task and a model"),
        ({"steps": 3}, "3 training steps need an optimizer"),
    ],
)
def test_what_gradients_need_is_asked_for(fields, message):
    with pytest.raises(ValidationError, match=message):
        Distortion(sketch=Fold(), **fields)


def test_more_gradients_than_examples_are_refused():
    with pytest.raises(ValueError, match="21 vectors .* task 'digits' has 20"):
        ran(directions="gradients", vectors=21, **SMALL)
