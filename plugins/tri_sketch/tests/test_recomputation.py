"""Checkpointed blocks: what can't be repeated is refused, what can is exact."""

import pytest
import torch
from sketchbench_tri_sketch import EMAFull, SVDOracle, TriSketch, Unbiased, VeLoRA
from sketchbench_tri_sketch.reading import Reading
from torch import Generator, nn
from torch.utils.checkpoint import checkpoint

from sketchbench.autodiff import seeded


def perceptron():
    with seeded(Generator().manual_seed(0)):
        return nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))


def built(recipe):
    return recipe.build(perceptron(), 5, Generator().manual_seed(0)).model


def batch(seed=1):
    return torch.randn(5, 8, generator=Generator().manual_seed(seed))


def gradients(model, out):
    model.zero_grad()
    out.square().sum().backward()
    return [p.grad.clone() for p in model.parameters()]


EMAS = [TriSketch(rank=1, beta=0.9), EMAFull(bias_correction=False)]  # whose notes are all alike


@pytest.mark.parametrize("recipe", EMAS, ids=lambda recipe: recipe.name)
def test_an_average_that_has_moved_on_is_refused(recipe):
    net = built(recipe.model_copy(update={"bias_correction": False}))
    first, second = (checkpoint(net, batch(seed), use_reentrant=False) for seed in (1, 2))
    with pytest.raises(RuntimeError, match=f"{recipe.name}: a layer ran several times"):
        (first + second).sum().backward()


def test_what_has_no_state_may_run_several_times():
    net, x = built(SVDOracle(rank=1)), batch()
    again = [checkpoint(net, x, use_reentrant=False) for _ in range(2)]
    ours, truth = gradients(net, sum(again)), gradients(net, net(x) + net(x))
    torch.testing.assert_close(ours, truth)


STATEFUL = [Unbiased(), TriSketch(rank=1, beta=0.9), VeLoRA(groups=2)]


@pytest.mark.parametrize("recipe", STATEFUL, ids=lambda recipe: recipe.name)
def test_reentrant_checkpointing_is_refused(recipe):
    out = checkpoint(built(recipe), batch().requires_grad_(), use_reentrant=True)
    with pytest.raises(RuntimeError, match=f"{recipe.name}: .*use_reentrant=False"):
        out.sum().backward()


def test_what_has_no_state_may_be_checkpointed_reentrantly():
    net, x = built(SVDOracle(rank=1)), batch().requires_grad_()
    ours = gradients(net, checkpoint(net, x, use_reentrant=True))
    torch.testing.assert_close(ours, gradients(net, net(x)))


@pytest.mark.parametrize("recipe", STATEFUL, ids=lambda recipe: recipe.name)
def test_a_second_backward_pass_recomputes_the_same(recipe):
    net = built(recipe)
    loss = checkpoint(net, batch(), use_reentrant=False).square().sum()
    first, second = (
        torch.autograd.grad(loss, list(net.parameters()), retain_graph=True) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(
        m.steps <= 1 for m in net.modules() if isinstance(m, Reading) and hasattr(m, "steps")
    )
