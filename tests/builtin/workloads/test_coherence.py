import math

import pytest
import torch
from pydantic import ValidationError

from sketchbench import Missing
from sketchbench.builtin import MLP, Coherence, Digits, HybridCNN, Incoherence, Shifted, Train
from sketchbench.builtin.workloads.coherence import Distances
from sketchbench.run import Run, Wanted

CPU = torch.device("cpu")


class Kept(Run):
    """A run that keeps the outcomes."""

    def __init__(self, seed=0):
        super().__init__(CPU, seed)
        self.outcomes = []

    def deliver(self, name, outcome, at=None):
        super().deliver(name, outcome, at)
        outcome = outcome() if callable(outcome) else outcome
        if isinstance(outcome, Distances):
            self.outcomes.append((name, at, outcome))

    def last(self, name):
        return next(o.relative for n, at, o in reversed(self.outcomes) if n == name)


@pytest.fixture
def followed(sgd):
    def follow(lr=0.05, **fields):
        run = Kept()
        given = {"task": Digits(train_limit=300), "model": MLP(hidden=(16,)), "epochs": 3}
        Coherence(**(given | {"optimizer": sgd(lr=lr), "batch_size": 50} | fields)).run(run)
        return run

    return follow


def test_training_is_that_of_the_workload_train(followed, sgd):
    run = followed()
    plain = Run(CPU, 0)
    task, model = Digits(train_limit=300), MLP(hidden=(16,))
    Train(task=task, model=model, optimizer=sgd(lr=0.05), epochs=3, batch_size=50).run(plain)
    for one, other in zip(
        run.watched.model.parameters(), plain.watched.model.parameters(), strict=True
    ):
        assert torch.equal(one, other)


def test_without_momentum_the_average_is_the_batch_itself(followed):
    run = followed(beta=0.0)
    assert run.last("batch").abs().max() == 0
    assert run.last("probe").abs().max() == 0


def test_with_frozen_weights_the_probe_is_coherent_and_the_batch_is_not(followed):
    run = followed(lr=0.0, beta=0.9)
    assert run.last("probe").max() < 1e-6
    assert run.last("batch")[5:].min() > 0.2


def test_a_full_batch_with_frozen_weights_is_coherent(followed):
    run = followed(lr=0.0, batching="full", epochs=6)
    assert run.last("batch").max() < 1e-6


def test_a_full_batch_drifts_as_its_own_probe_does(followed):
    task = Digits(train_limit=60)
    run = followed(task=task, batching="full", probe_rows=60, epochs=5)
    batch, probe = run.last("batch"), run.last("probe")
    torch.testing.assert_close(batch, probe, rtol=1e-4, atol=1e-6)
    assert batch[:, 1].max() > 1e-3  # the second layer's inputs move, the first one's can't
    assert probe[:, 0].max() < 1e-6


def test_the_distance_is_that_of_the_average_by_definition(followed):
    beta, run = 0.6, followed(beta=0.6, lr=0.0, batch_size=100, epochs=1)
    order = Digits().order(torch.zeros(300), run.rng("shuffle"))
    inputs = Digits(train_limit=300).load("train").inputs.flatten(1)
    batches = [inputs[part] for part in order.split(100)]
    average = sum((1 - beta) * beta ** (2 - i) * batch for i, batch in enumerate(batches))
    expected = (batches[2] - average / (1 - beta**3)).norm() / batches[2].norm()
    assert run.last("batch")[2, 0].item() == pytest.approx(expected.item(), rel=1e-5)


def test_each_epoch_is_delivered_and_all_of_them_at_last(followed):
    run = followed(epochs=2)
    places = [(name, at) for name, at, _ in run.outcomes]
    assert places == [
        *((name, at) for at in (1, 2) for name in ("batch", "probe")),
        ("batch", None),
        ("probe", None),
    ]
    parts = [o.relative for name, at, o in run.outcomes if name == "batch"]
    assert parts[0].shape == (6, 2)
    assert torch.equal(torch.cat(parts[:2]), parts[2])


def test_events_name_the_layers(followed):
    run = followed(epochs=1)
    event = next(e for e in run.events if e["what"] == "medians a layer" and e["name"] == "batch")
    assert event["1.0"] == pytest.approx(run.last("batch")[:, 0].quantile(0.5).item())


def test_convolutions_are_passed_over(followed):
    layers = followed(model=HybridCNN(), epochs=1).outcomes[0][2].layers
    assert layers
    assert all("conv" not in name for name in layers)


def test_a_shift_is_seen_by_the_batch_and_not_by_frozen_weights(followed):
    shifted = Shifted(task=Digits(train_limit=300), angle=90.0, at=6)
    run = followed(task=shifted, lr=0.0, batching="full", batch_size=1, epochs=9)
    batch = run.last("batch")[:, 0]
    assert batch[5] < 1e-6
    assert batch[6] > 0.5
    assert torch.equal(batch[6:], batch[6:].sort(descending=True).values)
    assert run.last("probe").max() < 1e-6


def test_incoherence_is_the_median_of_what_is_finite():
    found = torch.tensor([[0.1, math.nan], [0.5, 0.3]])
    assert Incoherence()(Distances(("a", "b"), found)) == pytest.approx(0.3)


def test_incoherence_of_nothing_finite_is_missing():
    with pytest.raises(Missing, match="no distance is finite"):
        Incoherence()(Distances(("a",), torch.tensor([[math.nan]])))


def test_it_is_scored_as_a_curve(sgd):
    run = Run(CPU, 0, [Wanted(Incoherence(), "batch"), Wanted(Incoherence(), "probe")])
    task = Digits(train_limit=300)
    Coherence(task=task, model=MLP(hidden=(8,)), optimizer=sgd(lr=0.05), epochs=2).run(run)
    batch, probe = run.measurements()
    assert batch.at == [1, 2]
    assert batch.value > probe.value > 0


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"schedule": "spike"}, "go together; got schedule 'spike' with spike_epoch None"),
        ({"spike_epoch": 1}, "go together; got schedule 'constant' with spike_epoch 1"),
        ({"schedule": "spike", "spike_epoch": 3}, "spike_epoch 3 must be below epochs 3"),
        ({"beta": 1.0}, "less than 1"),
    ],
)
def test_unfit_fields_are_refused(followed, fields, text):
    with pytest.raises(ValidationError) as caught:
        followed(**fields)
    assert text in str(caught.value)
