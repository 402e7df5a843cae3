"""Gradient quality: moments against the definition, frozen weights, and the closed form of EMAs."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sketchbench import ActivationSketch, Diverged, Field, Model, Shapes, Skip, Split, Task
from sketchbench.autodiff import Plain, linear_layers, replaced
from sketchbench.builtin import (
    MLP,
    Cosine,
    Digits,
    GradientBias,
    GradientCosine,
    GradientQuality,
    GradientVariance,
    MeanGradientError,
)
from sketchbench.builtin.workloads.moments import Moments
from sketchbench.run import Run

CPU = torch.device("cpu")


class Scripted(Run):
    def __init__(self, seed=0):
        super().__init__(CPU, seed)
        self.delivered, self.curves, self.seen = {}, {}, []

    def deliver(self, name, outcome, at=None):
        self.delivered[name] = outcome() if callable(outcome) else outcome
        self.curves.setdefault(name, []).append((at, self.delivered[name]))

    def watch(self, **what):
        self.seen.append(what)
        super().watch(**what)


class Kept(torch.autograd.Function):
    """x, W ↦ xWᵀ with dW = δᵀÂ for whatever Â is handed in."""

    @staticmethod
    def forward(ctx, x, weight, instead):
        ctx.save_for_backward(weight, instead)
        return F.linear(x, weight)

    @staticmethod
    def backward(ctx, delta):
        weight, instead = ctx.saved_tensors
        return delta @ weight, delta.mT @ instead, None


class Averaging(nn.Module):
    """A linear layer without bias that keeps an EMA of its inputs instead of its input."""

    def __init__(self, linear, beta):
        super().__init__()
        self.weight, self.beta, self.mean, self.calls = linear.weight, beta, None, 0

    def forward(self, x):
        self.calls += 1
        seen = x.detach()
        self.mean = seen if self.mean is None else torch.lerp(seen, self.mean, self.beta)
        return Kept.apply(x, self.weight, self.mean)


class EMA(ActivationSketch):
    """The EMA of the whole activation matrix: no sketching error at all."""

    name = "test-ema"
    beta: float = Field(0.95)

    def build(self, model, batch_size, rng):
        names = linear_layers(model, "all")
        layers = {name: Averaging(model.get_submodule(name), self.beta) for name in names}
        BUILT.append(layers)
        return Plain(replaced(model, layers))


class Halved(ActivationSketch):
    """Twice the activation where the sum of the batch's first input is positive, else nothing."""

    name = "test-halved"

    def build(self, model, batch_size, rng):
        return _Halved(model)


class _Halved(Plain):
    def accumulate(self, inputs, targets, loss):
        mean = super().accumulate(inputs, targets, loss)
        for parameter in self.model.parameters():
            parameter.grad *= 2.0 * (inputs.flatten()[0] > 0)
        return mean


BUILT = []


class Cloud(Task):
    """A regression with three features and two outputs, none of them centred."""

    name = "test-cloud"
    rows: int = Field(4096)

    @property
    def shapes(self):
        return Shapes((3,), 2)

    def load(self, split):
        rng = torch.Generator().manual_seed(5)
        inputs = torch.randn(self.rows, 3, generator=rng, dtype=torch.double) + 0.3
        noise = torch.randn(self.rows, 2, generator=rng, dtype=torch.double)
        mixing = torch.tensor([[1.0, -1.0], [0.5, 2.0], [-2.0, 0.3]], dtype=torch.double)
        return Split(inputs, inputs @ mixing + 0.2 + 0.1 * noise)

    def loss(self, outputs, targets):
        return (outputs - targets).square().sum(1).mean() / 2


class Linear(Model):
    """One linear layer without bias, in double precision."""

    name = "test-linear"

    def build(self, shapes):
        return nn.Linear(shapes.inputs[0], shapes.outputs, bias=False).double()


class Dropping(Model):
    """A network that draws masks, and keeps running statistics."""

    name = "test-dropping"

    def build(self, shapes):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Dropout(0.5), nn.Linear(32, 10)
        )


@pytest.fixture
def quality(sgd):
    def run(activation=None, seed=0, **fields):
        BUILT.clear()
        given = {"task": Digits(), "model": MLP(hidden=(16,)), "optimizer": sgd(lr=0.01)} | fields
        found = Scripted(seed)
        GradientQuality(activation=activation, **given).run(found)
        return found

    return run


def test_moments_are_those_of_all_vectors_at_once():
    rng = torch.Generator().manual_seed(0)
    exact = torch.randn(9, 5, generator=rng, dtype=torch.double) + 3
    sketched = exact * 2 + torch.randn(9, 5, generator=rng, dtype=torch.double)
    moments = Moments()
    for one, other in zip(sketched, exact, strict=True):
        moments.add(one, other)
    sample = moments.sample()
    torch.testing.assert_close(sample.exact, exact.mean(0))
    torch.testing.assert_close(sample.sketched, sketched.mean(0))
    torch.testing.assert_close(sample.cosines, F.cosine_similarity(sketched, exact))
    for found, vectors in (
        (sample.exact_variance, exact),
        (sample.sketched_variance, sketched),
        (sample.difference_variance, sketched - exact),
    ):
        assert found == pytest.approx(vectors.var(0).sum().item(), rel=1e-12)


def test_the_exact_gradient_has_no_error_and_the_variance_of_its_batches(quality):
    sample = quality(steps=3, samples=8).delivered["gradients"]
    assert GradientCosine()(sample) == pytest.approx(1)
    assert GradientBias()(sample) == MeanGradientError()(sample) == 0
    assert sample.exact_variance == sample.sketched_variance > 0


def test_weights_are_frozen_while_both_gradients_are_had(quality, sgd):
    """Truth: the gradients by hand, at the weights that two steps of training reach."""
    run = quality(Halved(), task=Cloud(), model=Linear(), steps=2, samples=4, batch_size=64)
    sample, batches = run.delivered["gradients"], [w["inputs"] for w in run.seen if "inputs" in w]
    model = Linear().build(Cloud().shapes)
    watched = next(w["model"] for w in run.seen if "model" in w)
    model.load_state_dict(watched.state_dict())
    gradients, factors = [], []
    for inputs, targets in batches[-4:]:
        (gradient,) = torch.autograd.grad(Cloud().loss(model(inputs), targets), model.weight)
        gradients.append(gradient.flatten())
        factors.append(2.0 * (inputs.flatten()[0] > 0))
    exact, factors = torch.stack(gradients), torch.stack(factors)[:, None]
    torch.testing.assert_close(sample.exact, exact.mean(0))
    torch.testing.assert_close(sample.sketched, (exact * factors).mean(0))
    assert sample.cosines.tolist() == pytest.approx((factors[:, 0] / 2).tolist())


def test_an_ema_of_activations_has_the_bias_of_the_closed_form(quality):
    """E[ĝ] = (1 − β)E[g] + β·E[Σδ]·E[ā]ᵀ for independent batches.

    A mean over 1536 of 2048 rows is off by (1/1536 − 1/2048)^½ standard deviations, 1.3 %; over
    500 batches by 6e-4, where a standard deviation is about the gradient's size.
    """
    beta, task = 0.95, Cloud(rows=2048)
    frozen = {"steps": 0, "burn_in": 200, "samples": 500, "batch_size": 1536}
    run = quality(EMA(beta=beta), task=task, model=Linear(), **frozen)
    sample, split = run.delivered["gradients"], task.load("train")
    weight = next(w["model"] for w in run.seen if "model" in w).weight.detach()
    delta = split.inputs @ weight.mT - split.targets
    exact = delta.mT @ split.inputs / task.rows
    expected = (1 - beta) * exact + beta * delta.mean(0)[:, None] * split.inputs.mean(0)
    bias = ((expected - exact).norm() / exact.norm()).item()
    assert bias > 0.7  # as on real networks: by no means a small one
    error = (sample.sketched - expected.flatten()).norm() / exact.norm()
    assert error < 1e-3
    assert GradientBias()(sample) == pytest.approx(bias**2, abs=4e-3)  # 2 · bias · 1e-3, twice
    assert MeanGradientError()(sample) == pytest.approx(bias, abs=2e-3)


def test_a_full_batch_leaves_an_ema_without_bias(quality):
    run = quality(EMA(), task=Cloud(rows=64), model=Linear(), steps=0, samples=3, batching="full")
    assert GradientBias()(run.delivered["gradients"]) < 1e-20
    assert GradientVariance()(run.delivered["gradients"]) < 1e-20


@pytest.mark.parametrize(
    ("fields", "calls"),
    [
        ({"steps": 4}, 2 + 3),
        ({"steps": 4, "train_with": "sketch"}, 4 + 2 + 3),
        ({"steps": 4, "probe_every": 3}, 4 + 2 + 3),
        ({"steps": 4, "probe_every": 3, "train_with": "sketch"}, 4 + 2 + 3),
    ],
)
def test_a_sketch_sees_each_batch_once(quality, fields, calls):
    quality(
        EMA(), task=Cloud(rows=64), model=Linear(), batch_size=8, burn_in=2, samples=3, **fields
    )
    assert [layer.calls for layer in BUILT[0].values()] == [calls]


def test_steps_beyond_the_epochs_keep_the_last_rate_of_cosine(quality, monkeypatch):
    """Truth: 4 steps an epoch; the last of 4 has half of 1 + cos 3π/4, and so have all later."""
    rates, factor = [], GradientQuality.factor

    def recording(self, step, steps):
        rates.append(factor(self, step, steps))
        return rates[-1]

    monkeypatch.setattr(GradientQuality, "factor", recording)
    fields = {"steps": 8, "samples": 2, "batch_size": 16, "epochs": 1, "schedule": "cosine"}
    quality(task=Cloud(rows=64), model=Linear(), **fields)
    assert rates[3:] == pytest.approx([(1 - 0.5**0.5) / 2] * 5)


def test_probes_are_delivered_at_their_steps_and_change_nothing(quality):
    plain = quality(steps=7, samples=2)
    probed = quality(steps=7, samples=2, probe_every=3)
    assert [at for at, _ in probed.curves["probe"]] == [0, 3, 6]
    assert "probe" not in plain.curves
    assert torch.equal(plain.delivered["gradients"].exact, probed.delivered["gradients"].exact)


@pytest.mark.parametrize("train_with", ["exact", "sketch"])
def test_both_forms_draw_the_same_masks(quality, train_with):
    run = quality(model=Dropping(), steps=4, samples=3, probe_every=2, train_with=train_with)
    assert GradientCosine()(run.delivered["gradients"]) == pytest.approx(1)
    assert all(Cosine()(outcome) == pytest.approx(1) for _, outcome in run.curves["probe"])


def test_training_with_the_sketch_is_another_training(quality):
    exact, sketched = (
        quality(Halved(), steps=5, samples=2, train_with=form).delivered["gradients"].exact
        for form in ("exact", "sketch")
    )
    assert not torch.equal(exact, sketched)


def test_spectra_are_those_of_the_layers_inputs(quality):
    run = quality(steps=0, samples=2, batch_size=50)
    first, second = run.delivered["inputs"].values
    inputs = run.seen[-1]["inputs"][0]
    torch.testing.assert_close(first, torch.linalg.svdvals(inputs.flatten(1).double()))
    assert (len(first), len(second)) == (50, 16)


def test_scope_chooses_the_layers_compared(quality):
    sizes = {
        scope: len(quality(steps=0, samples=2, scope=scope).delivered["gradients"].exact)
        for scope in ("all", "hidden", ("1.0",))
    }
    assert sizes == {"all": 16 * 64 + 160, "hidden": 160, ("1.0",): 16 * 64}


def test_a_model_without_linear_layers_is_skipped(quality):
    with pytest.raises(Skip, match="no linear layer in scope 'hidden'"):
        quality(model=MLP(hidden=()), scope="hidden")


def test_a_seed_repeats_and_the_global_generator_stays(quality):
    before = torch.get_rng_state()
    once, again, other = (
        quality(EMA(beta=0.5), seed, task=Cloud(), model=Linear(), steps=2, samples=2)
        for seed in (0, 0, 1)
    )
    assert torch.equal(before, torch.get_rng_state())
    one, two, three = (run.delivered["gradients"].sketched for run in (once, again, other))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


def test_training_that_diverges_is_told(quality, sgd):
    with pytest.raises(Diverged, match="the loss is (inf|nan) after 40 training steps"):
        quality(task=Cloud(rows=64), model=Linear(), optimizer=sgd(lr=1e30), steps=40, samples=2)
