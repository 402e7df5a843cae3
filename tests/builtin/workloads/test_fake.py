"""Training on fake tensors: every step runs without a value, up to the epoch's mean loss."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode

from sketchbench.builtin import CIFAR10, MLP, MNIST, Digits, HybridCNN, ResNet20, Train
from sketchbench.builtin.models.transformer import GPT
from sketchbench.builtin.tasks.text import TinyShakespeare
from sketchbench.builtin.tasks.tokens import RandomTokens
from sketchbench.builtin.workloads.precision import PRECISIONS
from sketchbench.run import Run

CPU = torch.device("cpu")
SMALL = GPT(layers=2, width=8, heads=2)


class Stepping(Run):
    """A run that counts its steps and keeps what it watches."""

    def __init__(self):
        super().__init__(CPU, 0)
        self.steps = 0
        self.seen = {}

    def region(self, name):
        self.steps += name == "step"
        return super().region(name)

    def watch(self, **what):
        self.seen |= what
        super().watch(**what)


@pytest.fixture
def stopped(monkeypatch, sgd):
    """Train on blank fake data; return the run, stopped where a value is asked for."""

    def run(task, model, **fields):
        monkeypatch.setattr(type(task), "load", lambda self, split: self.blank(split))
        found = Stepping()
        with (
            FakeTensorMode(allow_non_fake_inputs=False),
            pytest.raises(DataDependentOutputException, match="_local_scalar_dense") as caught,
        ):
            Train(task=task, model=model, optimizer=sgd(), **fields).run(found)
        frame = next(e for e in reversed(caught.traceback) if e.path.name == "train.py")
        assert ".mean().item()" in str(frame.statement)
        assert not found.events
        return found

    return run


@pytest.mark.parametrize("precision", list(PRECISIONS))
@pytest.mark.parametrize(
    ("task", "model"),
    [
        (Digits(augment=True, train_limit=300), MLP(hidden=(32,))),
        (CIFAR10(augment=True, train_limit=300), ResNet20()),
        (MNIST(train_limit=300), HybridCNN()),
        (RandomTokens(context=4, examples=300), SMALL),
        (TinyShakespeare(context=4, train_limit=300), SMALL.model_copy(update={"dropout": 0.1})),
    ],
    ids=lambda recipe: recipe.label(),
)
def test_an_epoch_runs_up_to_its_mean_loss(stopped, task, model, precision):
    run = stopped(task, model, precision=precision)
    assert run.steps == 300 // 128
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    for parameter in run.seen["model"].parameters():
        assert isinstance(parameter, FakeTensor)
        assert parameter.dtype == parameter.grad.dtype == dtype
        size = math.prod(parameter.shape) * dtype.itemsize
        assert parameter.untyped_storage().nbytes() == size
    assert all(isinstance(each, FakeTensor) for each in run.seen["inputs"])
    assert run.seen["optimizer"].state


def test_the_global_generator_is_left_where_it_was(stopped):
    before = torch.get_rng_state()
    stopped(Digits(), MLP())
    assert torch.equal(torch.get_rng_state(), before)
