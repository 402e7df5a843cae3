import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from sketchbench import ActivationSketch, Model, Skip
from sketchbench.autodiff import Plain, replaced, seeded
from sketchbench.builtin import MLP, Accuracy, Digits, ResNet20, Train
from sketchbench.builtin.models.transformer import GPT
from sketchbench.builtin.tasks.tokens import RandomTokens
from sketchbench.builtin.workloads.precision import PRECISIONS
from sketchbench.run import Run, Wanted

CPU = torch.device("cpu")
BF16, FP32 = torch.bfloat16, torch.float32
ROUNDOFF = torch.finfo(BF16).eps / 2
LOG = []


class Kept(Run):
    """A run that keeps its model and what was delivered."""

    def __init__(self, wanted=()):
        super().__init__(CPU, 0, wanted)
        self.delivered = {}

    def watch(self, *, model=None, **rest):
        super().watch(model=model, **rest)
        self.model = self.model if model is None else model

    def deliver(self, name, outcome, at=None):
        super().deliver(name, outcome, at)
        if callable(outcome):
            self.delivered[name] = outcome()


class Observed(Model):
    """A perceptron that notes types and the state of autocast in its forward and backward."""

    name = "test-observed"

    def build(self, shapes):
        network = MLP(hidden=(16,)).build(shapes)
        for name, module in network.named_modules():
            if type(module) is nn.Linear:
                module.register_forward_hook(_noting(name))
        return network


def _noting(name):
    def note(module, inputs, outputs):
        LOG.append(("forward", outputs.dtype, torch.is_autocast_enabled("cpu")))
        if outputs.requires_grad:
            outputs.register_hook(
                lambda grad: LOG.append(("backward", grad.dtype, torch.is_autocast_enabled("cpu")))
            )

    return note


class Stepping(ActivationSketch):
    """The exact model, run a layer at a time: the model itself is never called."""

    name = "test-stepping"

    def build(self, model, batch_size, rng):
        class Stepped(Plain):
            def accumulate(self, inputs, targets, loss):
                for layer in self.model:
                    inputs = layer(inputs)
                mean = loss(inputs, targets)
                mean.backward()
                return mean.detach()

        return Stepped(model)


@pytest.fixture
def train(sgd):
    def run(precision, wanted=(), lr=0.1, **fields):
        defaults = {"task": Digits(), "model": MLP(hidden=(32,)), "optimizer": sgd(lr=lr)}
        found = Kept(wanted)
        Train(**(defaults | fields), precision=precision).run(found)
        return found

    return run


@pytest.fixture
def log():
    LOG.clear()
    yield LOG
    LOG.clear()


def first_loss(run):
    return run.events[0]["train_loss"]


def loss_error(model, split):
    """Return a standard deviation of the loss in bf16, from independent roundings.

    A rounding to bf16 is off by at most u, relatively, with variance u²/3 at most. A linear layer
    rounds weights, bias, input and output and sums in fp32; a ReLU enlarges no error; the loss
    moves by Σⱼ (pⱼ - yⱼ)·errorⱼ, and no mean has a larger deviation than its parts have on average.
    """
    rounding = ROUNDOFF**2 / 3
    outputs = split.inputs.flatten(1)
    variance = rounding * outputs.square()
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    for layer in layers:
        inputs = outputs if layer is layers[0] else outputs.relu()
        squares = layer.weight.square().mT
        outputs = layer(inputs)
        variance = variance @ squares + rounding * (
            inputs.square() @ squares + layer.bias.square() + outputs.square()
        )
    slope = outputs.softmax(1) - nn.functional.one_hot(split.targets, 10)
    return (slope.abs() * variance.sqrt()).sum(1).mean().item()


@pytest.mark.parametrize("precision", ["bf16", "amp-bf16"])
def test_the_first_loss_is_fp32s_up_to_rounding(train, precision):
    fields = {"batching": "full", "task": Digits(train_limit=200)}
    full, low = (first_loss(train(name, **fields)) for name in ("fp32", precision))
    with seeded(Kept().rng("weights")), torch.no_grad():
        error = loss_error(MLP(hidden=(32,)).build(Digits().shapes), fields["task"].load("train"))
    assert 0 < abs(full - low) < 5 * error < 0.05


@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_digits_are_learnt_in_every_precision(train, precision):
    run = train(precision, [Wanted(Accuracy(), "test")], epochs=5)
    (accuracy,) = (m for m in run.measurements() if m.metric == "accuracy")
    assert accuracy.value > 0.85


@pytest.mark.parametrize(
    ("precision", "dtype", "size"), [("fp32", FP32, 4), ("bf16", BF16, 2), ("amp-bf16", FP32, 4)]
)
@pytest.mark.parametrize("model", [MLP(hidden=(32,)), ResNet20()])
def test_parameters_buffers_and_gradients_are_kept_in(train, precision, dtype, size, model):
    run = train(precision, task=Digits(train_limit=100, test_limit=10), model=model, lr=1e-3)
    count = 0
    for parameter in run.model.parameters():
        assert parameter.dtype == parameter.grad.dtype == dtype
        count += parameter.untyped_storage().nbytes()
    assert count == size * sum(p.numel() for p in run.model.parameters())
    assert {b.dtype for b in run.model.buffers() if b.is_floating_point()} <= {dtype}


def test_bf16_starts_from_fp32s_weights_rounded(train):
    fields = {"task": Digits(train_limit=100), "lr": 0.0}
    full, low = (train(name, **fields).model.state_dict() for name in ("fp32", "bf16"))
    assert all(torch.equal(low[key], full[key].bfloat16()) for key in full)


def test_amp_computes_linear_layers_in_bf16_and_ends_before_the_backward(train, log):
    train("amp-bf16", model=Observed(), batching="full")
    assert log[:2] == [("forward", BF16, True)] * 2
    assert log[2:4] == [("backward", BF16, False)] * 2
    assert log[4:] == [("forward", BF16, True)] * len(log[4:])  # evaluation


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", FP32), ("bf16", BF16)])
def test_without_amp_there_is_no_autocast(train, log, precision, dtype):
    train(precision, model=Observed(), batching="full")
    assert {entry[1:] for entry in log} == {(dtype, False)}


@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_the_task_is_given_outputs_in_fp32(train, precision, monkeypatch):
    seen = []
    loss = Digits.loss

    def noting(self, outputs, targets):
        seen.append((outputs.dtype, targets.dtype))
        return loss(self, outputs, targets)

    monkeypatch.setattr(Digits, "loss", noting)
    run = train(precision, batching="full")
    assert set(seen) == {(FP32, torch.int64)}
    assert run.delivered["test"].outputs.dtype == FP32


def test_evaluation_is_in_the_same_precision_as_training(train):
    task = Digits(test_limit=50)
    test = task.load("test")
    low, mixed = (train(name, task=task) for name in ("bf16", "amp-bf16"))
    with torch.no_grad():
        expected = low.model.eval()(test.inputs.bfloat16()).float()
        assert torch.equal(low.delivered["test"].outputs, expected)
        exact = replaced(mixed.model, {}).eval()
        with torch.autocast("cpu", BF16):
            expected = exact(test.inputs).float()
        assert torch.equal(mixed.delivered["test"].outputs, expected)
        assert not torch.equal(exact(test.inputs), expected)


@pytest.mark.parametrize("precision", list(PRECISIONS))
def test_tokens_stay_tokens(train, precision):
    model, task = GPT(layers=1, width=8, heads=2), RandomTokens(context=4, examples=64)
    run = train(precision, task=task, model=model, lr=1e-3)
    assert math.isfinite(first_loss(run))


def test_fp32_takes_data_in_double_precision_as_the_model_does():
    arithmetic, x = PRECISIONS["fp32"](), torch.ones(2, dtype=torch.float64)
    assert arithmetic.inputs(x).dtype == torch.float32
    assert arithmetic.inputs(torch.ones(2, dtype=torch.int64)).dtype == torch.int64


def test_fp32_changes_nothing():
    arithmetic, x = PRECISIONS["fp32"](), torch.ones(2)
    model = nn.Linear(2, 2)
    arithmetic.attach(model, CPU)
    assert arithmetic.inputs(x) is x
    assert arithmetic.outputs(x) is x
    assert arithmetic.loss(nn.functional.mse_loss) is nn.functional.mse_loss
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


# ---------------------------------------------------------------- autocast by hooks


def attached(model):
    amp = PRECISIONS["amp-bf16"]()
    amp.attach(model, CPU)
    return amp


def test_names_layers_and_type_of_the_model_stay():
    model = MLP(hidden=(8,)).build(Digits().shapes)
    before = (type(model), list(model.named_modules()), list(model.named_parameters()))
    attached(model)
    after = (type(model), list(model.named_modules()), list(model.named_parameters()))
    assert after == before


def test_copies_of_the_model_compute_in_fp32():
    model = nn.Sequential(nn.Linear(3, 3))
    attached(model)
    x = torch.ones(2, 3)
    assert model(x).dtype == BF16
    assert replaced(model, {})(x).dtype == FP32


def test_autocast_is_left_after_an_error_in_the_forward():
    model = nn.Sequential(nn.Linear(3, 3))
    attached(model)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(torch.ones(2, 4))
    assert not torch.is_autocast_enabled("cpu")


def test_autocast_is_left_alone_by_an_error_before_the_forward():
    model = nn.Sequential(nn.Linear(3, 3))
    model.register_forward_pre_hook(lambda *_: 1 / 0)
    attached(model)
    with torch.autocast("cpu", BF16):
        with pytest.raises(ZeroDivisionError):
            model(torch.ones(2, 3))
        assert torch.is_autocast_enabled("cpu")


def test_a_sketch_that_never_calls_its_model_is_skipped_under_amp_alone(train):
    with pytest.raises(Skip, match="amp-bf16: .* without calling its model") as caught:
        train("amp-bf16", activation=Stepping())
    assert "\n" not in str(caught.value)
    assert train("bf16", activation=Stepping(), batching="full").events


def test_an_unknown_precision_is_refused(train):
    with pytest.raises(ValidationError, match="'fp32', 'bf16' or 'amp-bf16'"):
        train("fp16")
