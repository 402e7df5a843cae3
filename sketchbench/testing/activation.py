"""Laws of an activation sketch: another backward pass for the same parameters."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from sketchbench import ActivationSketch, SketchedModel, Skip
from sketchbench.autodiff import Plain, seeded
from sketchbench.testing.period import repeats
from sketchbench.testing.saving import keeps_fewer_bytes_above_its_break_even

BATCH = 8
WATCHED = 60  # steps in which seldom work must show


def shares_the_parameters(subject: ActivationSketch) -> None:
    """The sketched model's parameters are the original's, by identity; its modules are left."""
    for model in _models():
        parameters, modules = list(model.parameters()), dict(model.named_modules())
        training = [module.training for module in model.modules()]
        sketched = _built(subject, model)
        own = {id(p) for p in sketched.model.parameters()}
        assert own == {id(p) for p in parameters}, (
            "expected sketched.model to have the original's parameters, by identity, and no others"
        )
        sketched.model.eval()
        if sketched.model is not model:
            assert dict(model.named_modules()) == modules, (
                "expected the original to keep its layers"
            )
            assert [module.training for module in model.modules()] == training, (
                "expected eval() of the sketched model to leave the original in training mode"
            )


def computes_the_exact_forward(subject: ActivationSketch) -> None:
    """Outputs are those of the exact model, to the bit, in training and in evaluation."""
    for model in _models():
        exact, (inputs, _) = copy.deepcopy(model), _batch()
        sketched = _built(subject, model).model
        for mode in (True, False):
            left, right = sketched.train(mode)(inputs), exact.train(mode)(inputs)
            assert torch.equal(left, right), (
                f"expected the exact outputs with train({mode}); "
                f"off by {(left - right).abs().max():.3g}"
            )


def returns_the_mean_loss(subject: ActivationSketch) -> None:
    """`accumulate` returns the batch's mean loss, a detached scalar."""
    for model in _models():
        inputs, targets = _batch()
        expected = F.cross_entropy(model(inputs), targets).detach()
        loss = _built(subject, model).accumulate(inputs, targets, F.cross_entropy)
        assert loss.shape == (), f"expected a scalar; got shape {tuple(loss.shape)}"
        assert not loss.requires_grad, "expected a detached loss"
        torch.testing.assert_close(loss, expected, msg=lambda text: f"expected the loss\n{text}")


def fills_the_gradients_that_are_asked_for(subject: ActivationSketch) -> None:
    """Gradients have the exact ones' shapes and are None where these are: frozen parameters."""
    for model in _models():
        for frozen in [None, *dict(model.named_parameters())]:
            twin = copy.deepcopy(model)
            for each in (model, twin):
                for name, parameter in each.named_parameters():
                    parameter.requires_grad_(name != frozen)
            model.zero_grad()
            _built(subject, model).accumulate(*_batch(), F.cross_entropy)
            Plain(twin).accumulate(*_batch(), F.cross_entropy)
            for name, parameter in model.named_parameters():
                expected = twin.get_parameter(name).grad
                assert _shape(parameter.grad) == _shape(expected), (
                    f"expected the gradient of '{name}' to be {_shape(expected)} with '{frozen}' "
                    f"frozen; got {_shape(parameter.grad)}"
                )


def has_the_exact_gradient_of_the_last_bias(subject: ActivationSketch) -> None:
    """The output layer's bias has the exact mean gradient, of full and of smaller batches.

    It is the sum of the loss's gradients by the outputs: an exact forward is all that it takes.
    """
    for model in _models():
        name, bias = list(model.named_parameters())[-1]
        for rows in (BATCH, 3):
            inputs, targets = _batch(rows)
            errors = F.softmax(model(inputs).detach(), dim=1) - F.one_hot(targets, 3)
            model.zero_grad()
            _built(subject, model).accumulate(inputs, targets, F.cross_entropy)
            off = float((_grad(bias) - errors.mean(0)).abs().max())
            assert off <= 1e-6, (  # about ten roundings of means of numbers below 1
                f"expected the exact gradient of '{name}' for {rows} rows, "
                f"{errors.mean(0).tolist()}; got {_grad(bias).tolist()}"
            )


def adds_to_the_gradients(subject: ActivationSketch) -> None:
    """`accumulate` adds to `.grad`, as backward does: the caller clears it."""
    for model in _models():
        _built(subject, model).accumulate(*_batch(), F.cross_entropy)
        alone = [_grad(p).clone() for p in model.parameters()]
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        _built(subject, model).accumulate(*_batch(), F.cross_entropy)
        for (name, p), expected in zip(model.named_parameters(), alone, strict=True):
            added = _grad(p) - 1  # off by a few roundings at 1 + |g|
            bound = 1e-6 * (1 + float(expected.abs().max()))
            assert (added - expected).abs().max() <= bound, (
                f"expected '{name}'.grad to be added to; it went up by {added.flatten()[:4]}…, "
                f"the gradient is {expected.flatten()[:4]}…"
            )


def repeats_from_its_seed(subject: ActivationSketch) -> None:
    """Steps, an epoch's end and a smaller batch repeat to the bit from the same seed."""
    for model in _models():
        twin = copy.deepcopy(model)
        for each in (model, twin):
            sketched = _built(subject, each, seed=5)
            for rows in (BATCH, BATCH, 3):
                sketched.accumulate(*_batch(rows), F.cross_entropy)
                sketched.end_epoch(1.0)
        for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
            assert _grad(p).isfinite().all(), f"expected a finite gradient of '{name}'"
            assert torch.equal(_grad(p), _grad(q)), (
                f"expected the same seed to give the same gradient of '{name}'"
            )


def leaves_the_global_generator(subject: ActivationSketch) -> None:
    """Building and stepping take their randomness from the generator handed to build."""
    for model in _models():
        before = torch.get_rng_state()
        _built(subject, model).accumulate(*_batch(), F.cross_entropy)
        assert torch.equal(before, torch.get_rng_state()), (
            "expected torch's global generator to be untouched; draw from the rng handed to build"
        )


def repeats_with_its_period(subject: ActivationSketch) -> None:
    """The operations of a step repeat with `full_period()`, within an epoch."""
    for model in _models():
        sketched, batch = _built(subject, model), _batch()

        def step(sketched: SketchedModel = sketched, batch: tuple[Tensor, Tensor] = batch) -> None:
            sketched.model.zero_grad()
            sketched.accumulate(*batch, F.cross_entropy)

        repeats(subject, step, WATCHED)


LAWS = (
    shares_the_parameters,
    computes_the_exact_forward,
    returns_the_mean_loss,
    fills_the_gradients_that_are_asked_for,
    has_the_exact_gradient_of_the_last_bias,
    adds_to_the_gradients,
    repeats_from_its_seed,
    leaves_the_global_generator,
    repeats_with_its_period,
    keeps_fewer_bytes_above_its_break_even,
)


def _models() -> Iterator[nn.Module]:
    """Yield a perceptron and a convolutional-dense hybrid for inputs (n, 1, 4, 4), 3 classes."""
    with seeded(Generator().manual_seed(0)):
        yield nn.Sequential(
            nn.Flatten(),
            nn.Linear(16, 12),
            nn.ReLU(),
            nn.Linear(12, 12, bias=False),
            nn.Tanh(),
            nn.Linear(12, 3),
        )
    with seeded(Generator().manual_seed(0)):
        yield nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 8),
            nn.GELU(),
            nn.Linear(8, 3),
        )


def _batch(rows: int = BATCH) -> tuple[Tensor, Tensor]:
    rng = Generator().manual_seed(1)
    return torch.randn(rows, 1, 4, 4, generator=rng), torch.randint(3, (rows,), generator=rng)


def _built(subject: ActivationSketch, model: nn.Module, seed: int = 0) -> SketchedModel:
    try:
        return subject.build(model, BATCH, Generator().manual_seed(seed))
    except Skip as reason:
        pytest.skip(str(reason))


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None, "expected a gradient; got None"
    return parameter.grad


def _shape(tensor: Tensor | None) -> tuple[int, ...] | None:
    return None if tensor is None else tuple(tensor.shape)
