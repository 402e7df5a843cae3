"""Sketched blocks: exact but for the weight's gradient, which is the reading's."""

import copy
import gc
import weakref

import pytest
import torch
from sketchbench_tri_sketch import EmaBasis, Unbiased
from sketchbench_tri_sketch.block import SketchedBlock, sketched
from sketchbench_tri_sketch.reading import Reading
from torch import Generator, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from sketchbench import Skip
from sketchbench.autodiff import seeded
from sketchbench.testing.period import Recorder


class Whole(Reading):
    """Keeps all of its input: the exact gradient, and a count of what it was asked."""

    method = "whole"

    def __init__(self, looks_ahead=False):
        super().__init__()
        self.updates, self.looks_ahead, self.outputs = [], looks_ahead, None

    def keep(self, rows, outputs, update):
        self.updates.append(update)
        self.outputs = outputs
        return [rows.clone()], None

    def gradient(self, delta, kept, note):
        return delta.mT @ kept[0]


class Tokens(nn.Module):
    """Attention and a perceptron on sequences (n, t, 6), without norms."""

    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(6, 18, bias=False), nn.Linear(6, 6)
        self.mlp = nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 6))

    def forward(self, x):
        x = x + self.out(F.scaled_dot_product_attention(*self.qkv(x).chunk(3, -1)))
        return x + self.mlp(x)


def perceptron(act=nn.ReLU, width=6):
    with seeded(Generator().manual_seed(0)):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(8, width), act(), nn.Linear(width, width), act(),
            nn.Linear(width, 3),
        )  # fmt: skip


def tokens():
    with seeded(Generator().manual_seed(0)):
        return Tokens()


def batch(*shape, dtype=torch.float32, seed=1):
    return torch.randn(*shape, generator=Generator().manual_seed(seed)).to(dtype)


def whole(model, smooth="keep", looks_ahead=False, scope="all"):
    return sketched(
        "whole", model, scope, smooth, lambda *_: Whole(looks_ahead), Generator().manual_seed(0)
    )


def gradients(model, x, weights=None):
    model.zero_grad()
    x = x.clone().requires_grad_(x.is_floating_point())
    out = model(x)
    out.backward(batch(*out.shape, seed=2).to(out.dtype))
    return [x.grad, *(p.grad for p in model.parameters())]


MODELS = [(perceptron, (5, 2, 4)), (tokens, (3, 7, 6))]
ACTIVATIONS = [nn.ReLU, nn.Tanh, nn.GELU, lambda: nn.GELU(approximate="tanh"), nn.SiLU]


@pytest.mark.parametrize("act", ACTIVATIONS, ids=lambda act: repr(act()))
@pytest.mark.parametrize("smooth", ["keep", "recompute"])
@pytest.mark.parametrize("ahead", [False, True])
def test_all_gradients_are_exact_where_the_reading_is(act, smooth, ahead):
    exact = perceptron(act)
    model = whole(copy.deepcopy(exact), smooth, ahead)
    x = batch(5, 2, 4)
    assert torch.equal(model(x), exact(x))
    torch.testing.assert_close(gradients(model, x), gradients(exact, x))


@pytest.mark.parametrize(("build", "shape"), MODELS)
@pytest.mark.parametrize("recipe", [Unbiased(), EmaBasis()], ids=lambda recipe: recipe.name)
def test_outputs_input_gradients_and_biases_are_exact(recipe, build, shape):
    exact, model = build(), build()
    x = batch(*shape)
    net = recipe.build(model, 5, Generator().manual_seed(0)).model
    assert torch.equal(net(x), exact(x))
    names = ["x", *(name for name, _ in exact.named_parameters())]
    for name, ours, truth in zip(names, gradients(net, x), gradients(exact, x), strict=True):
        if name == "x" or "bias" in name:
            torch.testing.assert_close(ours, truth, msg=lambda text, name=name: f"{name}: {text}")
        else:
            assert ours.shape == truth.shape
            assert not torch.allclose(ours, truth)


@pytest.mark.parametrize("act", ACTIVATIONS[1:], ids=lambda act: repr(act()))
def test_eight_bits_leave_the_last_bias_exact_and_the_others_near(act):
    exact = perceptron(act)
    model = whole(copy.deepcopy(exact), "8bit")
    ours, truth = gradients(model, batch(50, 8)), gradients(exact, batch(50, 8))
    torch.testing.assert_close(ours[-1], truth[-1])
    for mine, theirs in zip(ours, truth, strict=True):
        assert (mine - theirs).norm() <= 0.02 * theirs.norm()


def test_what_looks_ahead_sees_the_outputs():
    model = whole(perceptron(), looks_ahead=True)
    x = batch(5, 8)
    hidden = model[:3](x)
    assert torch.equal(model[1].reading.outputs, hidden)


@pytest.mark.parametrize("smooth", ["keep", "8bit"])
@pytest.mark.parametrize("act", [*ACTIVATIONS[1:], lambda: nn.SiLU(inplace=True)])
def test_what_looks_ahead_sees_the_outputs_of_smooth_functions(act, smooth):
    model = whole(perceptron(act), smooth, looks_ahead=True)
    x = batch(5, 8)
    hidden = model[:3](x)
    assert torch.equal(model[1].reading.outputs, hidden)
    exact = perceptron(act)[:3]
    torch.testing.assert_close(hidden, exact(x))


def test_names_and_parameters_stay():
    exact = perceptron()
    net = Unbiased().build(exact, 5, Generator().manual_seed(0)).model
    ours, theirs = dict(net.named_parameters()), dict(exact.named_parameters())
    assert ours.keys() == theirs.keys()
    assert all(ours[name] is theirs[name] for name in theirs)


def test_convolutions_stay_exact():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3))
    net = Unbiased().build(model, 5, Generator().manual_seed(0)).model
    assert [type(m) for m in net] == [nn.Conv2d, nn.ReLU, nn.Flatten, SketchedBlock]


def test_a_non_linearity_that_serves_several_layers_is_taken_in_where_it_follows_one():
    act = nn.ReLU()
    model = nn.Sequential(nn.Conv1d(1, 1, 1), act, nn.Linear(4, 4), act, nn.Linear(4, 2))
    net = whole(model)
    assert [type(m) for m in net] == [
        nn.Conv1d, nn.ReLU, SketchedBlock, nn.Identity, SketchedBlock,
    ]  # fmt: skip
    assert torch.equal(net(batch(3, 1, 4)), model(batch(3, 1, 4)))


def test_a_layer_that_occurs_twice_is_one_block_with_both_gradients():
    tied = nn.Linear(4, 4)
    exact = nn.Sequential(tied, nn.ReLU(), tied, nn.Tanh())
    net = whole(copy.deepcopy(exact))
    assert net[0] is net[2]
    torch.testing.assert_close(gradients(net, batch(5, 4)), gradients(exact, batch(5, 4)))
    assert net[0].reading.updates == [True, True]


def test_a_model_without_linear_layers_in_scope_is_skipped():
    with pytest.raises(Skip, match="unbiased: the model has no linear layer in scope 'hidden'"):
        Unbiased(scope="hidden").build(nn.Sequential(nn.Linear(2, 2)), 1, Generator())


def test_nothing_is_kept_and_no_state_moves_where_no_gradient_is_asked_for():
    model = whole(perceptron())
    x, readings = batch(5, 8), [m for m in model.modules() if isinstance(m, Whole)]
    with torch.no_grad():
        model(x)
    model.eval()
    model(x).sum().backward()
    model.train().requires_grad_(False)
    model(x)
    model(x.requires_grad_()).sum().backward()
    assert not any(reading.updates for reading in readings)


def test_a_frozen_weight_keeps_no_reading_and_gives_its_bias_a_gradient():
    exact = perceptron()
    for layer in (exact[1], exact[3]):
        layer.weight.requires_grad_(False)
    model = whole(copy.deepcopy(exact))
    torch.testing.assert_close(gradients(model, batch(5, 8)), gradients(exact, batch(5, 8)))
    assert [len(model[i].reading.updates) for i in (1, 3, 5)] == [0, 0, 1]


def test_the_input_gradient_is_computed_where_it_is_needed():
    """Of products with a weight, backward has one for each layer but the first."""
    net = Unbiased(columns=2).build(perceptron(), 5, Generator().manual_seed(0)).model

    def products(x):
        with Recorder() as recorder:
            net(x).sum().backward()
        shapes = [tuple(shape for shape, _ in ins) for op, ins, _ in recorder.operations]
        return sum(pair in [((5, 3), (3, 6)), ((5, 6), (6, 6)), ((5, 6), (6, 8))]
                   for pair in shapes)  # fmt: skip

    assert products(batch(5, 8)) == 2
    assert products(batch(5, 8).requires_grad_()) == 3


def test_state_moves_once_a_forward_pass():
    net = Unbiased().build(perceptron(), 5, Generator().manual_seed(0)).model
    for rows in (5, 3, 2):
        net(batch(rows, 8)).sum().backward()
    assert [net[i].reading.steps for i in (1, 3, 5)] == [3, 3, 3]


@pytest.mark.parametrize("recipe", [Unbiased(), EmaBasis()], ids=lambda recipe: recipe.name)
def test_a_recomputation_gives_the_same_gradients_and_moves_no_state(recipe):
    plain, recomputed = (recipe.build(perceptron(), 5, Generator().manual_seed(0)).model
                         for _ in range(2))  # fmt: skip
    again = lambda x: checkpoint(recomputed, x, use_reentrant=False)
    again.zero_grad, again.parameters = recomputed.zero_grad, recomputed.parameters
    for seed in (1, 2):
        ours, truth = (
            gradients(again, batch(5, 8, seed=seed)),
            gradients(plain, batch(5, 8, seed=seed)),
        )
        assert all(torch.equal(a, b) for a, b in zip(ours, truth, strict=True))
    assert [m.steps for m in recomputed.modules() if isinstance(m, Reading)] == [2, 2, 2]


def test_a_recomputation_that_cannot_know_its_projections_is_refused():
    net = Unbiased().build(perceptron(), 5, Generator().manual_seed(0)).model
    first, second = (checkpoint(net, batch(5, 8), use_reentrant=False) for _ in range(2))
    with pytest.raises(RuntimeError, match="unbiased: a layer ran several times"):
        (first + second).sum().backward()


def test_a_forward_pass_without_a_backward_pass_is_forgotten():
    net = Unbiased().build(perceptron(), 5, Generator().manual_seed(0)).model
    out = weakref.ref(net(batch(5, 8)))
    gc.collect()
    assert out() is None
    assert not any(len(net[i]._passes.waiting) for i in (1, 3, 5))
    checkpoint(net, batch(5, 8), use_reentrant=False).sum().backward()
