import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from sketchbench import ActivationSketch, Diverged, Event, Model
from sketchbench.autodiff import Plain
from sketchbench.builtin import MLP, Accuracy, Digits, EscapedShare, Loss, ResNet20, StepTime, Train
from sketchbench.run import Enough, Run, Wanted, places

CPU = torch.device("cpu")
LOG = []


class Scripted(Run):
    """A run that keeps what was delivered, evaluated or not."""

    def __init__(self, seed=0, wanted=(), stage="result", evaluate=True):
        super().__init__(CPU, seed, wanted, stage)
        self.evaluate = evaluate
        self.delivered = []

    def deliver(self, name, outcome, at=None):
        super().deliver(name, outcome, at)
        if callable(outcome):
            self.delivered.append((name, at, outcome() if self.evaluate else None))


class Logged(ActivationSketch):
    """The exact model, noting what it was given."""

    name = "test-logged"

    def build(self, model, batch_size, rng):
        LOG.append(("build", batch_size, rng.initial_seed()))
        return _Logged(model)


class _Logged(Plain):
    def accumulate(self, inputs, targets, loss):
        assert self.model.training
        assert all(p.grad is None for p in self.model.parameters())
        LOG.append(("batch", inputs.clone(), targets.clone()))
        return super().accumulate(inputs, targets, loss)

    def end_epoch(self, loss):
        LOG.append(("end", loss))
        return (Event("noted", {"loss": loss}),)


class Noisy(Model):
    """A linear model behind dropout."""

    name = "test-noisy"

    def build(self, shapes):
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(math.prod(shapes.inputs), 10))


@pytest.fixture
def train(sgd):
    def make(lr=0.1, **fields):
        defaults = {"task": Digits(), "model": MLP(hidden=(32,)), "optimizer": sgd(lr=lr)}
        return Train(**(defaults | fields))

    return make


@pytest.fixture
def log():
    LOG.clear()
    yield LOG
    LOG.clear()


def weights(run):
    return nn.utils.parameters_to_vector(run.watched.model.parameters()).detach()


def rates(run):
    return [event["lr"] for event in run.events]


def test_digits_are_learnt_in_a_few_epochs(train):
    wanted = [Wanted(Accuracy(), "test"), Wanted(Loss(), "train"), Wanted(StepTime(), "step")]
    run = Run(CPU, 0, wanted)
    train(epochs=5).run(run)
    found = {m.metric: m for m in run.measurements()}
    assert found["accuracy"].value > 0.9
    assert found["accuracy"].at == [1, 2, 3, 4, 5]
    assert found["loss"].samples == sorted(found["loss"].samples, reverse=True)
    assert found["step_time"].parts["occurrences"] == 5 * (1437 // 128) - 2


def test_what_an_optimizer_tells_of_its_sketches_is_delivered_each_epoch(train, sgd):
    class Telling(torch.optim.SGD):
        told = 0

        def escaped_shares(self):
            self.told += 1
            return torch.tensor([self.told / 4])

    class Told(type(sgd())):
        def build(self, params):
            return Telling(params, lr=self.lr)

    run = Run(CPU, 0, [Wanted(EscapedShare(), "optimizer")])
    train(epochs=2, optimizer=Told(lr=0.1)).run(run)
    assert run.measurements()[0].samples == [0.25, 0.5]


def test_an_optimizer_without_sketches_has_no_escaped_share(train):
    run = Run(CPU, 0, [Wanted(EscapedShare(), "optimizer")])
    train().run(run)
    assert "sketches nothing" in run.measurements()[0].why


@pytest.mark.parametrize("model", [MLP(hidden=(32,)), Noisy()])
def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(train, model):
    runs = [Scripted(seed) for seed in (1, 1, 2)]
    for run in runs:
        torch.rand(1)  # the global generator is elsewhere each time
        train(model=model, task=Digits(augment=True)).run(run)
    once, again, other = (run.delivered[0][2].outputs for run in runs)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_the_global_generator_is_left_where_it_was(train):
    before = torch.get_rng_state()
    train(model=Noisy()).run(Scripted())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("model", [Noisy(), ResNet20()])
def test_evaluation_does_not_change_the_trajectory(train, model):
    task = Digits(train_limit=300, test_limit=50)
    runs = [Scripted(evaluate=evaluate) for evaluate in (True, False)]
    for run in runs:
        train(model=model, epochs=2, task=task).run(run)
    states = [run.watched.model.state_dict() for run in runs]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_outcomes_hold_both_splits_without_augmentation(train):
    run = Scripted()
    train(task=Digits(augment=True, train_limit=200, test_limit=30)).run(run)
    (test_name, at, test), (train_name, _, training) = (
        found for found in run.delivered if found[0] != "optimizer"
    )
    assert (test_name, train_name, at) == ("test", "train", 1)
    assert test.outputs.shape == (30, 10)
    split = Digits(train_limit=200).load("train")
    with torch.no_grad():
        outputs = run.watched.model.eval()(split.inputs)
    torch.testing.assert_close(training.outputs, outputs)
    assert torch.equal(training.targets, split.targets)
    assert training.loss == pytest.approx(Digits().loss(outputs, split.targets).item())
    assert not training.outputs.requires_grad


def test_an_outcome_that_no_score_wants_is_not_computed(train, monkeypatch):
    monkeypatch.setattr(Train, "predict", lambda *_: pytest.fail("evaluated"))
    train().run(Run(CPU, 0))


def test_an_audit_ends_early_and_never_evaluates(train, monkeypatch):
    monkeypatch.setattr(Train, "predict", lambda *_: pytest.fail("evaluated"))
    probe = type("Audited", (StepTime,), {"name": "test-audited", "stage": "audit"})
    run = Run(CPU, 0, [Wanted(probe(), "step")], stage="audit")
    with pytest.raises(Enough):
        train(epochs=100).run(run)


def test_the_activation_sketch_gets_the_batch_size_and_each_epochs_loss(train, log):
    run = Scripted(seed=5)
    train(activation=Logged(), batch_size=500, epochs=2).run(run)
    assert [entry[0] for entry in log] == ["build"] + ["batch"] * 2 + ["end"] + ["batch"] * 2 + [
        "end"
    ]
    assert log[0] == ("build", 500, run.rng("activation").initial_seed())
    assert [entry[1] for entry in log if entry[0] == "end"] == [
        event["train_loss"] for event in run.events if event["what"] == "epoch"
    ]


def test_what_a_sketch_says_of_its_adapting_is_in_the_record(train, log):
    run = Scripted(seed=5)
    train(activation=Logged(), batch_size=500, epochs=2).run(run)
    noted = [event for event in run.events if event["what"] == "noted"]
    assert [(event["name"], event["at"]) for event in noted] == [
        ("activation", 1),
        ("activation", 2),
    ]
    assert [event["loss"] for event in noted] == [e[1] for e in log if e[0] == "end"]


def test_what_a_sketch_does_at_an_epochs_end_is_measured_but_is_no_step(train, log):
    class Adapting(StepTime):
        """Wall seconds of adapting."""

        name = "test-adapt-time"
        regions = ("adapt",)

    class Regions(Run):
        def region(self, name):
            log.append(("region", name))
            return super().region(name)

    run = Regions(CPU, 0, [Wanted(Adapting(), "adapt"), Wanted(Accuracy(), "test")])
    assert places(Train, Adapting()) == ("adapt",)
    assert places(Train, StepTime()) == ("step",)
    train(activation=Logged(), batch_size=1437, epochs=4).run(run)
    places_of_work = [entry[1] if entry[0] == "region" else entry[0] for entry in log[1:]]
    assert places_of_work == ["step", "batch", "adapt", "end"] * 4
    found = {m.metric: m for m in run.measurements()}
    assert found["test-adapt-time"].parts["occurrences"] == 4 - 2
    assert found["accuracy"].seconds[-1] == run._worked()


def test_memory_may_have_changed_after_each_epochs_end(train, log):
    class Changing(Run):
        def changed(self):
            log.append(("changed",))
            super().changed()

    train(activation=Logged(), batch_size=1437, epochs=2).run(Changing(CPU, 0))
    assert [entry[0] for entry in log[1:]] == ["batch", "end", "changed"] * 2


def test_an_exact_activation_sketch_changes_no_bit(train, log):
    runs = [Scripted(), Scripted()]
    train().run(runs[0])
    train(activation=Logged()).run(runs[1])
    assert torch.equal(weights(runs[0]), weights(runs[1]))


def batches(log):
    return [entry[1] for entry in log if entry[0] == "batch"]


def test_shuffled_batches_differ_from_epoch_to_epoch(train, log):
    train(activation=Logged(), epochs=2, batch_size=700).run(Scripted())
    first, _, third, _ = batches(log)
    assert first.shape[0] == 700
    assert not torch.equal(first, third)


def test_fixed_batches_are_the_same_in_every_epoch(train, log):
    train(activation=Logged(), epochs=2, batch_size=700, batching="fixed").run(Scripted())
    first, second, third, fourth = batches(log)
    assert torch.equal(first, third)
    assert torch.equal(second, fourth)


@pytest.mark.parametrize("fields", [{"batching": "full"}, {"batch_size": 5000}])
def test_a_full_batch_is_the_whole_split(train, log, fields):
    train(activation=Logged(), task=Digits(train_limit=150), **fields).run(Scripted())
    assert log[0][1] == 150
    assert [len(batch) for batch in batches(log)] == [150]


def test_a_batch_holds_distinct_examples_with_their_targets(train, log):
    train(activation=Logged(), batch_size=700).run(Scripted())
    split = Digits().load("train")
    _, inputs, targets = log[1]
    same = (inputs.flatten(1)[:, None] == split.inputs.flatten(1)[None]).all(-1)
    assert (same.sum(1) >= 1).all()
    assert torch.equal(split.targets[same.int().argmax(1)], targets)
    assert len(inputs.unique(dim=0)) == len(inputs)


def test_a_training_loss_that_is_not_finite_is_divergence(train):
    with pytest.raises(Diverged, match=r"training loss is (nan|inf) at epoch \d"):
        train(lr=1e30, epochs=3).run(Scripted())


def test_the_rate_follows_the_schedule(train):
    run = Scripted(evaluate=False)
    train(epochs=4, schedule="step", decay_epochs=(1, 3), decay_factor=0.5, warmup_epochs=1.0).run(
        run
    )
    assert rates(run) == pytest.approx([0.1, 0.05, 0.05, 0.025])


def test_the_cosine_ends_near_zero(train):
    run = Scripted(evaluate=False)
    train(epochs=2, schedule="cosine").run(run)
    steps = 2 * (1437 // 128)
    last = 0.05 * (1 + math.cos(math.pi * (steps - 1) / steps))
    assert rates(run)[1] == pytest.approx(last)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"schedule": "step"}, "go together; got schedule 'step' with decay_epochs []"),
        ({"decay_epochs": (3,)}, "go together; got schedule 'constant' with decay_epochs [3]"),
        ({"schedule": "step", "decay_epochs": (3, 2)}, "decay_epochs [3, 2] don't increase"),
        (
            {"schedule": "step", "decay_epochs": (1, 3), "epochs": 3},
            "decay_epochs [1, 3] must all be below epochs 3",
        ),
        ({"warmup_epochs": 1.5}, "warmup_epochs 1.5 is more than epochs 1"),
        ({"epochs": 0}, "greater than or equal to 1"),
        ({"batching": "none"}, "'shuffled', 'fixed' or 'full'"),
    ],
)
def test_unfit_fields_are_refused(train, fields, text):
    with pytest.raises(ValidationError) as caught:
        train(**fields)
    assert text in str(caught.value)
