"""The baselines of monitoring: exact norms, and copies of gradients."""

import pytest
import torch
from sketchbench_dense import GradNormExact, GradSnapshots
from torch import nn

from sketchbench import Skip
from sketchbench.testing import laws

test_grad_norm_exact = laws(GradNormExact())
test_grad_norm_exact_of_two_steps = laws(GradNormExact(window=2))
test_grad_snapshots = laws(GradSnapshots())
test_grad_snapshots_of_two_steps = laws(GradSnapshots(window=2))

RNG = torch.Generator().manual_seed(0)


def model():
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4))


def stepped(watcher, net, steps):
    for step in range(steps):
        for p in net.parameters():
            p.grad = torch.full_like(p, float(step + 1))
        yield watcher.estimates()


@pytest.mark.parametrize(
    ("recipe", "name"), [(GradNormExact(), "exact_norm"), (GradSnapshots(), "snapshot_norm")]
)
def test_norms_are_those_of_the_weights_gradients(recipe, name):
    net = model()
    watcher = recipe.build(net, 8, RNG)
    for step, found in enumerate(stepped(watcher, net, 3)):
        expected = (step + 1) * torch.tensor([30.0, 20.0]).sqrt()
        torch.testing.assert_close(found[name], expected)


def test_a_layer_without_a_gradient_has_none():
    net = model()
    watcher = GradNormExact().build(net, 8, RNG)
    net[2].weight.grad = torch.ones(4, 5)
    norms = watcher.estimates()["exact_norm"]
    assert norms[0].isnan()
    assert norms[1] == pytest.approx(20**0.5)


def test_exact_norms_take_four_bytes_a_layer_and_step():
    net = model()
    watcher = GradNormExact().build(net, 8, RNG)
    for steps, _ in enumerate(stepped(watcher, net, 7), start=1):
        assert watcher.held() == 4 * 2 * steps


def test_a_window_bounds_what_is_held():
    net = model()
    norms, copies = (
        r.build(net, 8, RNG) for r in (GradNormExact(window=3), GradSnapshots(window=3))
    )
    for watcher, per_step in ((norms, 4 * 2), (copies, 4 * (30 + 20))):
        held = []
        for _ in stepped(watcher, net, 5):
            held.append(watcher.held())
        assert held == [per_step * n for n in (1, 2, 3, 3, 3)]


def test_snapshots_are_copies():
    net = model()
    watcher = GradSnapshots(window=2).build(net, 8, RNG)
    net[0].weight.grad = torch.ones(5, 6)
    watcher.estimates()
    net[0].weight.grad.zero_()
    assert watcher._kept[0][0].eq(1).all()


@pytest.mark.parametrize("recipe", [GradNormExact(), GradSnapshots()])
def test_a_model_without_linear_layers_is_skipped(recipe):
    with pytest.raises(Skip, match="has no linear layer"):
        recipe.build(nn.Conv2d(1, 1, 3), 8, RNG)


@pytest.mark.parametrize("recipe", [GradNormExact(every=3), GradSnapshots(every=3)])
def test_the_period_is_that_of_observing(recipe):
    assert recipe.full_period() == 3
