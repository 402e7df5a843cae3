"""Blocks whose gradients are differentiated again, and those that refuse."""

import copy

import pytest
import torch
from sketchbench_tri_sketch import EmaBasis, Unbiased
from sketchbench_tri_sketch.block import sketched
from sketchbench_tri_sketch.reading import Reading
from torch import Generator, nn

from sketchbench.autodiff import seeded


class Whole(Reading):
    """Keeps all of its input: the exact gradient."""

    method = "whole"

    def keep(self, rows, outputs, update):
        return [rows.clone()], None

    def gradient(self, delta, kept, note):
        return delta.mT @ kept[0]


def perceptron(act=nn.ReLU, width=6):
    with seeded(Generator().manual_seed(0)):
        return nn.Sequential(
            nn.Linear(8, width), act(), nn.Linear(width, width), act(), nn.Linear(width, 3)
        )


def whole(model, smooth="keep", scope="all"):
    return sketched("whole", model, scope, smooth, lambda *_: Whole(), Generator())


def batch(*shape, dtype=torch.float32, seed=1):
    return torch.randn(*shape, generator=Generator().manual_seed(seed)).to(dtype)


ACTIVATIONS = [nn.ReLU, nn.Tanh, nn.GELU, lambda: nn.GELU(approximate="tanh"), nn.SiLU]


@pytest.mark.parametrize("act", ACTIVATIONS, ids=lambda act: repr(act()))
@pytest.mark.parametrize("recipe", [Unbiased(projections="fixed"), EmaBasis(beta=0.0)],
                         ids=lambda recipe: recipe.name)  # fmt: skip
def test_the_backward_pass_is_differentiable_in_the_input_and_the_gradient(recipe, act):
    """Of x, δ ↦ (∂/∂x, ĝ, ∂/∂b), which are exact but for ĝ, whose Â depends on x.

    With as many columns as features the projector of `ema-basis` is the identity, so that its
    basis, which counts as constant, is none that x could change.
    """
    recipe = recipe.model_copy(update={"columns": 4})
    linear = nn.Linear(4, 3).double()
    net = recipe.build(nn.Sequential(linear, act()), 5, Generator().manual_seed(0)).model
    weight, bias = net[0].weight, net[0].bias
    x, delta = batch(5, 4, dtype=torch.float64), batch(5, 3, dtype=torch.float64, seed=2)

    def backward(x, delta):
        return torch.autograd.grad(net(x), (x, weight, bias), delta, create_graph=True)

    assert torch.autograd.gradcheck(backward, (x.requires_grad_(), delta.requires_grad_()))


@pytest.mark.parametrize("smooth", ["keep", "recompute"])
def test_second_derivatives_by_the_input_are_exact(smooth):
    """A loss on ∂u/∂x, as that of a differential equation; its gradient by x, twice through x."""
    exact = perceptron(nn.Tanh).double()
    net = Unbiased(smooth=smooth).build(copy.deepcopy(exact), 5, Generator().manual_seed(0)).model
    found = []
    for model in (net, exact):
        x = batch(5, 8, dtype=torch.float64).requires_grad_()
        (slope,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        found.append(torch.autograd.grad(slope.square().sum(), x)[0])
    torch.testing.assert_close(*found)


def test_other_readings_refuse_to_be_differentiated_twice():
    net, x = whole(perceptron(nn.Tanh)), batch(5, 8).requires_grad_()
    with pytest.raises(RuntimeError, match=r"whole: .*can't be differentiated again"):
        torch.autograd.grad(net(x).sum(), x, create_graph=True)


def test_eight_bits_refuse_to_be_differentiated_twice():
    net = Unbiased(smooth="8bit").build(perceptron(nn.Tanh), 5, Generator().manual_seed(0)).model
    x = batch(5, 8).requires_grad_()
    with pytest.raises(RuntimeError, match="smooth=8bit: .*use smooth=keep"):
        torch.autograd.grad(net(x).sum(), x, create_graph=True)
