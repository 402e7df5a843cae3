import math

import pytest
import torch

from sketchbench.builtin import Accuracy, Loss, Train
from sketchbench.builtin.models.transformer import GPT
from sketchbench.builtin.tasks.text import TinyShakespeare
from sketchbench.builtin.tasks.tokens import RandomTokens
from sketchbench.builtin.workloads import loop
from sketchbench.run import Run, Wanted

CPU = torch.device("cpu")
SCORES = [Wanted(Accuracy(), "test"), Wanted(Loss(), "test")]


class Kept(Run):
    """A run that keeps its model and the last predictions of each split."""

    def __init__(self):
        super().__init__(CPU, 0, SCORES)
        self.delivered = {}

    def watch(self, *, model=None, **rest):
        super().watch(model=model, **rest)
        self.model = self.model if model is None else model

    def deliver(self, name, outcome, at=None):
        super().deliver(name, outcome, at)
        if callable(outcome):
            self.delivered[name] = outcome()


def scores(run):
    return {m.metric: m.value for m in run.measurements()}


@pytest.fixture
def trained(sgd):
    def run(task, model, **fields):
        found = Kept()
        Train(task=task, model=model, optimizer=sgd(lr=0.03), **fields).run(found)
        return found

    return run


def test_each_token_is_a_prediction(trained):
    task = RandomTokens(context=6, vocabulary=5, examples=30, test_examples=3)
    run = trained(task, GPT(layers=1, width=8, heads=2))
    test = task.load("test")
    with torch.no_grad():
        expected = run.model.eval()(test.inputs)
    found = run.delivered["test"]
    assert found.outputs.shape == (18, 5)
    assert torch.equal(found.targets, test.targets.flatten())
    torch.testing.assert_close(found.outputs, expected.flatten(0, 1))
    right = (expected.argmax(2) == test.targets).double().mean().item()
    assert scores(run)["accuracy"] == right
    assert scores(run)["loss"] == pytest.approx(task.loss(expected, test.targets).item())


def test_windows_are_evaluated_a_few_at_a_time(trained, monkeypatch):
    sizes = []

    class Noting(GPT):
        name = "test-noting"

        def build(self, shapes):
            network = super().build(shapes)
            network.register_forward_hook(lambda _, inputs, outputs: sizes.append(len(outputs)))
            return network

    task = RandomTokens(context=6, vocabulary=5, examples=30, test_examples=7)
    monkeypatch.setattr(loop, "EVALUATION_BATCH", 20)  # predictions
    trained(task, Noting(layers=1, width=8, heads=2), batch_size=30)
    assert sizes == [30] + 2 * [3, 3, 1] + 10 * [3]  # a step; a score and the test; training
    sizes.clear()
    monkeypatch.setattr(loop, "EVALUATION_BATCH", 2)
    trained(task, Noting(layers=1, width=8, heads=2), batch_size=30)
    assert set(sizes[1:]) == {1}


def test_random_tokens_are_guessed_no_better_than_by_chance(trained):
    task = RandomTokens(context=8, vocabulary=16, examples=256, test_examples=200)
    found = scores(trained(task, GPT(layers=1, width=16, heads=2)))
    assert found["loss"] > math.log(16) - 1e-3
    assert abs(found["accuracy"] - 1 / 16) < 5 * (15 / 16**2 / 1600) ** 0.5


def test_shakespeare_is_learnt_beyond_the_frequencies_of_letters(trained, real_text):
    """A model of single letters can't be better than their entropy, about 3.3 nats."""
    task = TinyShakespeare(context=32, train_limit=8000, test_limit=200)
    counts = task.load("test").targets.flatten().bincount().double()
    frequencies = counts[counts > 0] / counts.sum()
    entropy = -(frequencies * frequencies.log()).sum().item()
    found = scores(trained(task, GPT(layers=2, width=32, heads=2), batch_size=32))
    assert found["loss"] < entropy - 0.3
    assert found["accuracy"] > frequencies.max()
