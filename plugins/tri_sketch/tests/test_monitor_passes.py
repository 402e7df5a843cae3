"""The monitor under autocast, in narrow types, and where activations are recomputed."""

import pytest
import torch
from sketchbench_tri_sketch import TriSketchMonitor
from torch import Generator, nn
from torch.utils.checkpoint import checkpoint

from sketchbench.autodiff import seeded

RECIPE = TriSketchMonitor(two_sided=True)


def network(kind=torch.float32):
    with seeded(Generator().manual_seed(0)):
        layers = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)
        return nn.Sequential(*layers).to(kind)


def batch(seed):
    return torch.randn(16, 6, generator=Generator().manual_seed(seed))


def estimated(run, steps=2, kind=torch.float32):
    """Return each step's estimates; `run` maps the model and its inputs to outputs."""
    net = network(kind)
    watcher, found = RECIPE.build(net, 16, Generator().manual_seed(1)), []
    for seed in range(steps):
        run(net, batch(seed).to(kind)).float().square().sum().backward()
        found.append(watcher.estimates())
    return found


def close(ours, truth, **tolerances):
    for mine, theirs in zip(ours, truth, strict=True):
        torch.testing.assert_close(mine, theirs, equal_nan=True, **tolerances)


def cast(net, x):
    with torch.autocast("cpu", torch.bfloat16):
        return net(x)


def test_autocast_is_sketched_in_single():
    ours, truth = estimated(cast), estimated(nn.Module.__call__)
    assert {value.dtype for step in ours for value in step.values()} == {torch.float32}
    for mine, theirs in zip(ours, truth, strict=True):
        for name in ("sketched_norm", "delta_times_sketch", "z_norm"):
            torch.testing.assert_close(mine[name], theirs[name], rtol=2**-4, atol=0)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_recomputation_is_looked_at_once(reentrant):
    def again(net, x):
        return checkpoint(net, x.requires_grad_(), use_reentrant=reentrant)

    close(estimated(again), estimated(nn.Module.__call__))


def test_inputs_of_a_narrow_model_are_held_as_they_are():
    net = network(torch.bfloat16)
    RECIPE.build(net, 16, Generator().manual_seed(1))
    x, held = batch(0).bfloat16(), []
    out = net[0](x)
    hooks = out._backward_hooks or {}
    for hook in hooks.values():
        held += [each for each in hook.args if isinstance(each, torch.Tensor)]
    shared = [each for each in held if each.data_ptr() == x.data_ptr()]
    assert [each.dtype for each in shared] == [torch.bfloat16]
    assert not any(each.shape == x.shape and each.dtype != x.dtype for each in held)
