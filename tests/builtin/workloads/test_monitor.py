import math
from contextlib import contextmanager

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sketchbench import Missing, Monitor, Optimizer
from sketchbench.autodiff import linear_layers
from sketchbench.builtin import MLP, Digits, MonitorBytes, Monitored, RankCorrelation, StepTime
from sketchbench.run import Run, Wanted

CPU = torch.device("cpu")


class Exact(Monitor):
    """Exact norms, of the tests."""

    name = "test-exact"
    every: int = 1

    @property
    def period(self):
        return self.every

    def build(self, model, batch_size, rng):
        return Reading(model, batch_size)


class Reading:
    def __init__(self, model, batch_size):
        self.model, self.batch_size = model, batch_size
        self.layers = linear_layers(model, "all")
        self.told, self.read, self.closed = [], 0, False

    def observe(self, on):
        self.told.append(on)

    def estimates(self):
        self.read += 1
        grads = [self.model.get_submodule(name).weight.grad for name in self.layers]
        norms = [torch.tensor(math.nan) if grad is None else grad.norm() for grad in grads]
        return {"norm": torch.stack(norms)}

    def held(self):
        return self.read

    def close(self):
        self.closed = True


class Nesterov(Optimizer):
    """SGD that adds momentum to the gradients themselves, of the tests."""

    name = "test-nesterov"

    def build(self, params):
        return torch.optim.SGD(params, lr=0.05, momentum=0.9, nesterov=True, foreach=True)


class Writing(Optimizer):
    """SGD that doubles gradients from a step on, unseen by versions or not, of the tests."""

    name = "test-writing"
    start: int = 0
    unseen: bool = False

    def build(self, params):
        built, taken = torch.optim.SGD(params, lr=0.05), []

        def double(*_):
            taken.append(None)
            if len(taken) > self.start:
                for p in built.param_groups[0]["params"]:
                    (p.grad.data if self.unseen else p.grad).mul_(2)

        built.register_step_pre_hook(double)
        return built


class Frozen(MLP):
    """A perceptron whose first layer isn't trained, of the tests."""

    name = "test-frozen"

    def build(self, shapes):
        model = super().build(shapes)
        model[1].requires_grad_(False)
        return model


class Kept(Run):
    """A run that keeps its trace and predictions."""

    def __init__(self, seed=0, wanted=()):
        super().__init__(CPU, seed, wanted)
        self.delivered = {}

    def deliver(self, name, outcome, at=None):
        super().deliver(name, outcome, at)
        if callable(outcome):
            self.delivered[name] = outcome()
        elif isinstance(outcome, Missing):
            self.delivered[name] = str(outcome)


@pytest.fixture
def monitored(sgd):
    def make(lr=0.05, **fields):
        defaults = {
            "task": Digits(train_limit=256, test_limit=50),
            "model": MLP(hidden=(16, 16)),
            "optimizer": sgd(lr=lr),
            "monitor": Exact(),
            "batch_size": 32,
            "epochs": 2,
        }
        return Monitored(**(defaults | fields))

    return make


def traced(workload, seed=0):
    run = Kept(seed)
    workload.run(run)
    return run, run.delivered["trace"]


def weights(run):
    return nn.utils.parameters_to_vector(run.watched.model.parameters()).detach()


def test_the_trace_holds_estimates_beside_the_truth(monitored):
    run, trace = traced(monitored())
    assert trace.layers == linear_layers(run.watched.model, "all")
    assert trace.at.tolist() == list(range(16))
    assert trace.steps_per_epoch == 8
    assert trace.truth.shape == trace.estimates["norm"].shape == (16, 3)
    torch.testing.assert_close(trace.estimates["norm"], trace.truth, rtol=1e-5, atol=0)
    assert trace.losses[-1] < trace.losses[0]
    assert (trace.fault, trace.onset, trace.held) == (None, None, 16)


def overwritten(run):
    return [event["step"] for event in run.events if event["what"] == "overwritten"]


@pytest.mark.parametrize("optimizer", [Nesterov(), Writing(), Writing(unseen=True)])
def test_the_truth_is_of_gradients_before_the_update(monitored, optimizer):
    run, trace = traced(monitored(optimizer=optimizer))
    torch.testing.assert_close(trace.estimates["norm"], trace.truth, rtol=1e-5, atol=0)
    assert overwritten(run) == [0]


class NormsRead(TorchDispatchMode):
    """Notes of each norm whether it is computed inside a region."""

    def __init__(self):
        super().__init__()
        self.inside, self.read = False, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func is torch.ops.aten.linalg_vector_norm.default:
            self.read.append(self.inside)
        return func(*args, **(kwargs or {}))

    @contextmanager
    def region(self, name):
        self.inside = True
        yield
        self.inside = False


@pytest.mark.parametrize(
    ("fields", "inside"),
    [({}, [True, False] + [False] * 15), ({"optimizer": Nesterov()}, [True, False] + [True] * 15)],
)
def test_the_truth_is_read_in_the_region_at_first_and_where_the_update_overwrites(
    monitored, fields, inside
):
    run, norms = Kept(), NormsRead()
    run.region = norms.region
    with norms:
        monitored(monitor=None, **fields).run(run)
    assert norms.read[::3] == inside  # three layers
    assert len(norms.read) == 3 * len(inside)


def test_an_optimizer_that_overwrites_later_loses_the_norms_of_one_step(monitored):
    run, trace = traced(monitored(optimizer=Writing(start=5)))
    assert overwritten(run) == [5]
    kept = [step for step in range(16) if step != 5]
    assert trace.truth[5].isnan().all()
    torch.testing.assert_close(trace.estimates["norm"][kept], trace.truth[kept], rtol=1e-5, atol=0)


def test_a_layer_without_a_gradient_has_no_truth_and_ends_nothing(monitored):
    run, trace = traced(monitored(model=Frozen(hidden=(16, 16))))
    assert trace.layers[0] == "1.0"
    assert trace.truth.isfinite().tolist() == [[False, True, True]] * 16
    assert [event["what"] for event in run.events] == ["epoch"] * 2


def test_training_is_that_of_the_run_without_a_monitor(monitored):
    runs = [Kept(), Kept()]
    monitored().run(runs[0])
    monitored(monitor=None).run(runs[1])
    assert torch.equal(weights(runs[0]), weights(runs[1]))
    assert runs[1].delivered["trace"] == "nothing watches"


def test_a_monitor_observes_the_first_step_of_each_period(monitored):
    _, trace = traced(monitored(monitor=Exact(every=3)))
    assert trace.at.tolist() == [0, 3, 6, 9, 12, 15]
    assert trace.held == len(trace.losses) == 6
    assert monitored(monitor=Exact(every=3)).full_period() == 3


def test_the_monitor_rests_between_and_is_closed(monitored, monkeypatch):
    built = []
    build = Exact.build
    monkeypatch.setattr(Exact, "build", lambda *a: built.append(build(*a)) or built[-1])
    traced(monitored(monitor=Exact(every=4), epochs=1))
    assert built[0].told == [True, False, False, False] * 2
    assert built[0].read == 2
    assert built[0].closed
    assert built[0].batch_size == 32


def test_weights_start_with_the_variance_of_he(monitored):
    model = nn.Linear(400, 300)
    monitored()._begin(model, torch.Generator().manual_seed(0))
    assert model.weight.std().item() == pytest.approx((2 / 400) ** 0.5, rel=0.01)
    assert not model.bias.any()


@pytest.mark.parametrize(("condition", "factor"), [("vanishing", 0.1**0.5), ("exploding", 2.0)])
def test_a_fault_of_the_weights_scales_them_at_the_start(monitored, condition, factor):
    healthy, faulty = nn.Linear(20, 10), nn.Linear(20, 10)
    for model, fields in ((healthy, {}), (faulty, {"condition": condition})):
        monitored(**fields)._begin(model, torch.Generator().manual_seed(0))
    torch.testing.assert_close(faulty.weight, factor * healthy.weight)
    _, trace = traced(monitored(condition=condition, lr=1e-4))
    assert (trace.fault, trace.onset) == (condition, 0)


def test_the_model_may_keep_its_own_weights(monitored):
    model = nn.Linear(20, 10)
    before = model.weight.detach().clone()
    monitored(start="model")._begin(model, torch.Generator().manual_seed(0))
    assert torch.equal(model.weight, before)


def test_a_spike_raises_the_rate_for_one_epoch(monitored):
    run, trace = traced(monitored(condition="spike", onset=1, epochs=3, lr=0.01, spike_factor=4.0))
    rates = [event["lr"] for event in run.events if event["what"] == "epoch"]
    assert rates == pytest.approx([0.01, 0.04, 0.01])
    assert (trace.fault, trace.onset) == ("spike", 8)


def test_a_spike_after_the_last_epoch_is_refused(monitored):
    with pytest.raises(ValidationError, match="onset 2 must be below epochs 2"):
        monitored(condition="spike", onset=2)


def test_training_that_is_not_finite_ends_without_failing(monitored):
    run, trace = traced(monitored(lr=1e30, epochs=5))
    assert not (trace.losses[-1].isfinite() and trace.truth[-1].isfinite().all())
    assert trace.losses[:-1].isfinite().all()
    (ended,) = [event for event in run.events if event["what"] == "ended"]
    assert ended["step"] == trace.at[-1]
    assert run.delivered["test"] == f"not finite from step {ended['step']} on"


def test_the_same_seed_gives_the_same_bits(monitored):
    once, again, other = (traced(monitored(), seed)[1].truth for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_the_global_generator_is_left_where_it_was(monitored):
    before = torch.get_rng_state()
    traced(monitored())
    assert torch.equal(before, torch.get_rng_state())


def test_scores_that_an_outcome_lacks_are_missing_with_a_reason(monitored):
    scores = [RankCorrelation(), RankCorrelation(estimate="other"), MonitorBytes()]
    run = Run(CPU, 0, [*(Wanted(s, "trace") for s in scores), Wanted(StepTime(), "step")])
    monitored().run(run)
    found = {m.metric: m for m in run.measurements()}
    assert found["rank_correlation"].value == pytest.approx(1)
    lacking = found["rank_correlation(estimate=other)"]
    assert math.isnan(lacking.value)
    assert lacking.why == "the monitor has no 'other': norm"
    assert found["monitor_bytes"].value == 16
