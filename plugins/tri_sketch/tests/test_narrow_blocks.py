"""Blocks in bfloat16 and under autocast: sketches in float32, outputs as the exact model's."""

import copy

import pytest
import torch
from sketchbench_tri_sketch import EmaBasis, Unbiased
from sketchbench_tri_sketch.block import sketched
from sketchbench_tri_sketch.reading import Reading
from torch import Generator, nn

from sketchbench.autodiff import seeded
from sketchbench.builtin.workloads.precision import PRECISIONS


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


@pytest.mark.parametrize("precision", ["bf16", "amp-bf16"])
@pytest.mark.parametrize("smooth", ["keep", "8bit", "recompute"])
@pytest.mark.parametrize("act", ACTIVATIONS, ids=lambda act: repr(act()))
def test_narrow_precisions_have_exact_outputs_and_gradients_of_the_parameters_type(
    precision, smooth, act
):
    found = []
    for is_sketched in (True, False):
        arithmetic, model = PRECISIONS[precision](), perceptron(act)
        arithmetic.place(model, torch.device("cpu"))
        net = whole(model, smooth) if is_sketched else model
        arithmetic.attach(net, torch.device("cpu"))
        out = net(arithmetic.inputs(batch(6, 8)))
        arithmetic.outputs(out).square().sum().backward()
        found.append((out, [p.grad for p in net.parameters()]))
    (ours, mine), (truth, theirs) = found
    assert torch.equal(ours, truth)
    for grad, exact in zip(mine, theirs, strict=True):
        assert grad.dtype == exact.dtype
        assert (grad - exact).norm() <= 2**-4 * exact.norm()  # eight bits of mantissa, six layers


@pytest.mark.parametrize("recipe", [Unbiased(), EmaBasis()], ids=lambda recipe: recipe.name)
def test_sketches_of_narrow_activations_are_float32(recipe):
    net = recipe.build(perceptron().bfloat16(), 5, Generator().manual_seed(0)).model
    seen = []
    reading = net[2].reading
    keep = reading.keep
    reading.keep = lambda *args: seen.extend(keep(*args)[0]) or keep(*args[:2], False)
    with torch.autocast("cpu", torch.bfloat16):
        net(batch(5, 8, dtype=torch.bfloat16)).sum().backward()
    assert {tensor.dtype for tensor in [*seen, *reading.buffers()]} == {torch.float32}


def test_autocast_keeps_the_gradient_of_a_weight_that_an_exact_layer_shares():
    """Its cache would hold the weight as cast in the block's forward, which has no history."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    net = whole(model, scope=("0",))
    exact = copy.deepcopy(model)
    for each in (net, exact):
        with torch.autocast("cpu", torch.bfloat16):
            out = each(batch(5, 4))
        out.float().square().sum().backward()
    ours, truth = net[0].weight.grad, exact[0].weight.grad
    assert (ours - truth).norm() <= 2**-5 * truth.norm()
