import math
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import nn

from sketchbench import Diverged, Field, Missing, Optimizer, Shapes, Skip, Split, Task
from sketchbench.builtin.metrics.predictions import Accuracy, Loss
from sketchbench.builtin.metrics.regret import (
    AverageRegret,
    CumulativeLoss,
    Guarantee,
    Mistakes,
    Played,
    Regret,
    RegretOverBound,
)
from sketchbench.builtin.tasks.binary import Binary
from sketchbench.builtin.tasks.digits import Digits
from sketchbench.builtin.tasks.linear_costs import LinearCosts
from sketchbench.builtin.tasks.logistic_stream import LogisticStream
from sketchbench.builtin.tasks.tokens import RandomTokens
from sketchbench.builtin.workloads.regret import Online
from sketchbench.run import Run, Wanted

CPU = torch.device("cpu")


class _Bounded(torch.optim.SGD):
    """SGD that projects itself, and states a bound."""

    def __init__(self, params, lr):
        super().__init__(params, lr=lr)
        self.param_groups[0]["radius"] = None

    def step(self, closure=None):
        super().step()
        (group,) = self.param_groups
        for p in group["params"]:
            p.data *= min(1.0, group["radius"] / max(p.norm().item(), 1e-300))

    def guarantee(self, moment, diameter):
        return diameter * moment.diagonal().sum().item()


class _Own(Optimizer):
    """SGD with a ball and a bound of its own, of the tests."""

    name = "test-own"
    lr: float = Field(0.1)

    def build(self, params):
        return _Bounded(list(params), self.lr)


class _Fragile(Optimizer):
    """SGD that raises from a rate of 1, of the tests."""

    name = "test-fragile"

    def build(self, params):
        optimizer = torch.optim.SGD(list(params), lr=0.1)

        def check(*_):
            if optimizer.param_groups[0]["lr"] >= 1:
                raise FloatingPointError("not finite")

        optimizer.register_step_pre_hook(check)
        return optimizer


class _Cliff(Task):
    """Costs whose loss is a square: large rates diverge; of the tests."""

    name = "test-cliff"

    @property
    def shapes(self):
        return Shapes((1,), 1)

    def load(self, split):
        return Split(torch.ones(400, 1), torch.ones(400))

    def loss(self, outputs, targets):
        return (outputs.squeeze(-1) - targets).square().mean()


SCORES = [
    Wanted(metric, where)
    for metric, where in (
        *((m, "play") for m in (Regret(), AverageRegret(), CumulativeLoss(), Mistakes())),
        (RegretOverBound(), "guarantee"),
        (Accuracy(), "average"),
        (Loss(), "average"),
    )
]


def ran(workload, seed=0):
    run = Run(CPU, seed, SCORES)
    workload.run(run)
    return {m.metric: m for m in run.measurements()}, run.events


def test_one_round_of_linear_costs_is_gradient_descent_in_a_ball(sgd):
    task = LinearCosts(shape=(4,), rank=2, examples=30)
    workload = Online(task=task, optimizer=sgd(momentum=0.0), rates=(0.5,), radius=1.0, points=3)
    found, events = ran(workload)
    split = task.load("train")
    order = torch.randperm(30, generator=Run(CPU, 0).rng("order"))
    costs = split.inputs[order].double()
    point, suffered = torch.zeros(4).double(), []
    for cost in costs:
        suffered.append((cost @ point).item())
        point -= 0.5 * cost
        point *= min(1.0, 1 / point.norm().item())
    best = -costs.sum(0) / costs.sum(0).norm()
    assert found["cumulative_loss"].value == pytest.approx(sum(suffered))
    assert found["regret"].value == pytest.approx(sum(suffered) - (costs @ best).sum().item())
    assert found["average_regret"].value == pytest.approx(found["regret"].value / 30)
    assert list(found["regret"].at) == [10, 20, 30]
    half = sum(suffered[:10]) - (costs[:10] @ best).sum().item()
    assert found["regret"].samples[0] == pytest.approx(half)
    for name in ("mistakes", "accuracy"):
        assert math.isnan(found[name].value)
        assert "no classes" in found[name].why
    assert "states no bound" in found["regret_over_bound"].why
    told = next(event for event in events if event["what"] == "rates")
    assert (told["best"], told["edge"]) == (0.5, False)


LOGISTIC = LogisticStream(width=6, rank=3, noise=0.2, examples=200)


def test_linear_costs_without_a_ball_have_no_regret(sgd):
    found, _ = ran(Online(task=LinearCosts(examples=20), optimizer=sgd()))
    assert math.isnan(found["regret"].value)
    assert "need a radius" in found["regret"].why
    assert math.isfinite(found["cumulative_loss"].value)


def test_the_best_rate_is_that_of_the_least_loss_and_an_edge_is_told(sgd):
    task = LogisticStream(width=8, rank=2, examples=300)
    losses = {}
    for rate in (0.01, 0.1, 1.0):
        alone, _ = ran(Online(task=task, optimizer=sgd(), rates=(rate,)))
        losses[rate] = alone["cumulative_loss"].value
    found, events = ran(Online(task=task, optimizer=sgd(), rates=(0.1, 0.01, 1.0)))
    best = min(losses, key=losses.get)
    told = next(event for event in events if event["what"] == "rates")
    assert found["cumulative_loss"].value == pytest.approx(losses[best])
    assert told["best"] == best
    assert told["edge"] == (best != 0.1)
    assert told["loss at 0.01"] == pytest.approx(losses[0.01])


def test_a_rate_that_diverges_is_infinite_and_ends_nothing():
    class Plain(Optimizer):
        """Plain SGD."""

        name = "test-plain"

        def build(self, params):
            return torch.optim.SGD(list(params), lr=0.1)

    found, events = ran(Online(task=_Cliff(), optimizer=Plain(), rates=(0.1, 50.0)))
    told = next(event for event in events if event["what"] == "rates")
    assert told["best"] == 0.1
    assert told["loss at 50"].startswith("diverged at round ")
    assert math.isfinite(found["regret"].value)
    with pytest.raises(Diverged, match="every rate of 1 diverged, at round"):
        ran(Online(task=_Cliff(), optimizer=Plain(), rates=(50.0,)))


def test_what_an_optimizer_raises_of_a_broken_gradient_is_divergence():
    task = LogisticStream(examples=20)
    _, events = ran(Online(task=task, optimizer=_Fragile(), rates=(0.1, 1.0)))
    told = next(event for event in events if event["what"] == "rates")
    assert told["loss at 1"] == "diverged at round 1"


def test_a_bound_is_compared_at_the_rate_of_theory_and_the_method_knows_its_ball():
    task = LogisticStream(width=5, rank=2, examples=100)
    found, _ = ran(Online(task=task, optimizer=_Own(), rates=(0.3,), radius=0.2))
    split = task.load("train")
    order = torch.randperm(100, generator=Run(CPU, 0).rng("order"))
    sums = {}
    for rate in (0.3, 0.4 / 2**0.5):
        point = nn.Parameter(torch.zeros(5, dtype=torch.double))
        optimizer = _Own().build([point])
        optimizer.param_groups[0].update(lr=rate, radius=0.2)
        squares, suffered = 0.0, 0.0
        for z, wanted in zip(*(part[order].double() for part in vars(split).values()), strict=True):
            optimizer.zero_grad()
            loss = F.binary_cross_entropy_with_logits(z @ point, wanted)
            loss.backward()
            squares += point.grad.square().sum().item()
            suffered += loss.item()
            optimizer.step()
        sums[rate] = suffered, squares
    (tuned, _), (suffered, squares) = sums.values()
    assert found["cumulative_loss"].value == pytest.approx(tuned)
    regret = found["regret"].value + suffered - tuned
    assert found["regret_over_bound"].value == pytest.approx(regret / (0.4 * squares))


class _Balled(_Own):
    """SGD in a ball that its recipe gives, of the tests."""

    name = "test-balled"
    radius: float | None = Field(None)


@pytest.mark.parametrize("radius", [None, 3.0])
def test_a_ball_of_the_optimizer_s_own_is_refused(radius):
    complaint = "'test-balled' has a ball of its own, of radius 2; the comparator's is the workl"
    with pytest.raises(ValidationError, match=complaint):
        Online(task=LOGISTIC, optimizer=_Balled(radius=2.0), radius=radius)
    assert Online(task=LOGISTIC, optimizer=_Balled(radius=2.0), radius=2.0).radius == 2.0


class _Incomplete(_Cliff):
    """A task of 500 examples of which 400 are at hand, of the tests."""

    name = "test-incomplete"
    sizes: ClassVar[dict[str, int]] = {"train": 500}


def test_a_record_says_of_how_many_examples_it_is(sgd):
    binary = Binary(task=Digits(train_limit=30))
    for task, counts in ((_Incomplete(), (25, 400, 500)), (binary, (25, 30, 1437))):
        _, events = ran(Online(task=task, optimizer=sgd(), rounds=25, rates=(0.01,)))
        told = next(event for event in events if event["what"] == "examples")
        assert (told["played"], told["loaded"], told["complete"]) == counts


def test_several_outputs_make_a_matrix_of_x_and_mistakes_are_wrong_classes(sgd):
    task = Digits(train_limit=60, test_limit=20)
    found, _ = ran(Online(task=task, optimizer=sgd(momentum=0.0), rates=(0.1,), radius=2.0))
    split = task.load("train")
    order = torch.randperm(60, generator=Run(CPU, 0).rng("order"))
    inputs, targets = split.inputs[order].flatten(1).double(), split.targets[order]
    point, wrong, played = torch.zeros(64, 10).double(), 0, []
    for z, wanted in zip(inputs, targets, strict=True):
        played.append(point.clone())
        odds = z @ point
        wrong += int(odds.argmax() != wanted)
        point = point - 0.1 * torch.outer(z, odds.softmax(0) - F.one_hot(wanted, 10))
        point = point * min(1.0, 2 / point.norm().item())
    assert found["mistakes"].value == pytest.approx(wrong / 60)
    test = task.load("test")
    outputs = test.inputs.flatten(1).double() @ torch.stack(played).mean(0)
    right = (outputs.argmax(1) == test.targets).double().mean().item()
    assert found["accuracy"].value == pytest.approx(right)
    assert found["loss"].value == pytest.approx(task.loss(outputs, test.targets).item())


def test_a_task_without_vectors_is_skipped(sgd):
    with pytest.raises(Skip, match="'random-tokens' are no vectors but indices"):
        ran(Online(task=RandomTokens(), optimizer=sgd()))


def test_rounds_are_limited_and_drawn_anew_for_each_seed(sgd):
    task = LogisticStream(examples=50)
    values = [
        ran(Online(task=task, optimizer=sgd(), rounds=20), seed)[0]["cumulative_loss"]
        for seed in (0, 1, 0)
    ]
    assert values[0].at[-1] == 20
    assert values[0].value != values[1].value
    assert values[0].value == values[2].value


def test_metrics_are_their_definitions():
    known = Played(rounds=10, loss=7.0, best=4.0, mistakes=3)
    assert (Regret()(known), AverageRegret()(known)) == (3.0, 0.3)
    assert (CumulativeLoss()(known), Mistakes()(known)) == (7.0, 0.3)
    assert RegretOverBound()(Guarantee(regret=3.0, bound=12.0)) == 0.25
    unknown = Played(rounds=10, loss=7.0, best=Missing("nobody knows"), mistakes=None)
    for score in (Regret(), AverageRegret(), Mistakes()):
        with pytest.raises(Missing):
            score(unknown)
