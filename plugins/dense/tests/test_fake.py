"""The dense plugin on fake tensors: what keeps memory is known without a value."""

import pytest
import torch
from sketchbench_dense import (
    SGD,
    SOAP,
    Adagrad,
    Adam,
    AdamW,
    Checkpoint,
    GaLore,
    MicroBatch,
    Muon,
    RandomGradient,
    ZeroGradient,
)
from sketchbench_dense.micro_batch import fitting_rows, saved_bytes
from torch import Generator, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.nn import functional as F

from sketchbench.builtin import MLP, Digits, Train
from sketchbench.builtin.models.transformer import GPT
from sketchbench.builtin.tasks.tokens import RandomTokens
from sketchbench.run import Run

CPU = torch.device("cpu")
SKETCHES = [
    None,
    Checkpoint(),
    Checkpoint(every=2),
    MicroBatch(rows=50),
    MicroBatch(bytes=10**6),
    MicroBatch(rows=50, checkpoint=1),
    ZeroGradient(),
    RandomGradient(),
]
OPTIMIZERS = [SGD(), SGD(momentum=0.9), Adam(), AdamW(), Adagrad(), SOAP(), GaLore(rank=4)]
OPTIMIZERS += [Muon()] if hasattr(torch.optim, "Muon") else []


class BlankDigits(Digits):
    """Digits without values."""

    name = "test-blank-digits"

    def load(self, split):
        return self.blank(split)


class BlankTokens(RandomTokens):
    """Tokens without values."""

    name = "test-blank-tokens"

    def load(self, split):
        return self.blank(split)


class Counting(Run):
    """A run that counts its steps."""

    steps = 0

    def region(self, name):
        self.steps += name == "step"
        return super().region(name)


def steps_of(**fields):
    run = Counting(CPU, 0)
    with (
        FakeTensorMode(allow_non_fake_inputs=False),
        pytest.raises(DataDependentOutputException) as caught,
    ):
        Train(**fields).run(run)
    frame = next(e for e in reversed(caught.traceback) if e.path.name == "train.py")
    assert ".mean().item()" in str(frame.statement)  # that of the epoch's losses
    return run.steps


TOKENS = (BlankTokens(context=4, examples=260), GPT(layers=2, width=8, heads=2))


@pytest.mark.parametrize("sketch", SKETCHES, ids=lambda recipe: recipe.label() if recipe else "no")
@pytest.mark.parametrize(
    ("task", "model", "precision"),
    [
        (BlankDigits(train_limit=260), MLP(hidden=(16, 16)), "fp32"),
        (*TOKENS, "bf16"),
        (*TOKENS, "amp-bf16"),
    ],
    ids=["mlp-fp32", "gpt-bf16", "gpt-amp"],
)
def test_sketches_step_without_values(task, model, sketch, precision):
    fields = {"task": task, "model": model, "optimizer": Adam(), "activation": sketch}
    assert steps_of(**fields, precision=precision) == 2


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda recipe: recipe.label())
def test_optimizers_step_without_values(optimizer):
    task = BlankDigits(train_limit=260)
    assert steps_of(task=task, model=MLP(hidden=(16, 16)), optimizer=optimizer) == 2


def attention():
    class Attention(nn.Module):
        def forward(self, x):
            return (x @ x.mT).softmax(-1) @ x

    return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.ReLU(), Attention(), nn.Linear(8, 3))


def kept(rows):
    model, inputs, targets = attention(), torch.zeros(rows, 6), torch.zeros(rows, dtype=torch.int64)
    return saved_bytes(model, inputs, targets, F.cross_entropy)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_what_is_kept_is_the_same_on_fake_tensors(rows):
    with FakeTensorMode(allow_non_fake_inputs=False):
        found = kept(rows)
    assert found == kept(rows) > 0


def test_as_many_rows_fit_on_fake_tensors():
    def rows():
        inputs, targets = torch.zeros(64, 6), torch.zeros(64, dtype=torch.int64)
        return fitting_rows(attention(), inputs, targets, F.cross_entropy, budget)

    budget = kept(20)
    with FakeTensorMode(allow_non_fake_inputs=False):
        found = rows()
    assert found == rows() == 20


def test_a_structure_that_cannot_be_compared_without_values_is_let_through():

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))

        def forward(self, x):
            return self.layers(x)

    with FakeTensorMode(allow_non_fake_inputs=False):
        model = Around()
        sketched = Checkpoint(every=2).build(model, 3, Generator())
        loss = sketched.accumulate(torch.zeros(3, 4), torch.zeros(3, 4), F.mse_loss)
    assert loss.shape == ()
    assert all(p.grad.shape == p.shape for p in model.parameters())
