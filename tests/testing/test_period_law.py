"""The law of periods tells what repeats too seldom, too often and never, and says where."""

import pytest
import torch
from torch import nn

from sketchbench import CovarianceSketch, Field, Optimizer
from sketchbench.testing import optimizer
from sketchbench.testing.period import Recorder, repeats

CPU = torch.device("cpu")


class Renewing(Optimizer):
    """Descent by a preconditioner that it renews every so many steps."""

    name = "renewing"
    every: int = Field(3, ge=1, description="Steps between renewals.")
    declared: int = Field(3, ge=1, description="What it says of them.")
    late: int = Field(0, ge=0, description="Steps that do something else.")
    grows: bool = Field(False, description="Whether what it keeps changes.")

    @property
    def period(self):
        return self.declared

    @property
    def changing(self):
        return self.grows

    def build(self, params):
        return Preconditioned(params, self.every, self.late)


class Preconditioned(torch.optim.Optimizer):
    def __init__(self, params, every, late):
        super().__init__(params, {"lr": 0.1})
        self.every, self.late, self.steps = every, late, 0

    @torch.no_grad()
    def step(self):
        if self.steps % self.every == 0:
            torch.linalg.eigh(torch.eye(2))
        if self.steps < self.late:
            torch.ones(3).sum()
        self.steps += 1
        for group in self.param_groups:
            for p in group["params"]:
                scale = self.state[p].setdefault("scale", torch.ones(()))
                p.add_(scale * p.grad, alpha=-group["lr"])


@pytest.mark.parametrize("every", [1, 2, 3, 10, 100])
def test_the_declared_period_is_the_observed_one(every):
    optimizer.repeats_with_its_period(Renewing(every=every, declared=every))


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        (1, r"after the 1 step\(s\) that full_period\(\) declares; step \d+ runs .* where step"),
        (2, r"after the 2 step\(s\) .* It repeats after 3: let 'period' say so"),
        (4, r"after the 4 step\(s\) .* It repeats after 3"),
        (6, r"to be the 3 step\(s\) after which the work repeats; it declares 6"),
        (300, r"to be the 3 step\(s\) after which the work repeats; it declares 300"),
    ],
)
def test_another_period_than_the_observed_one_is_caught(declared, text):
    with pytest.raises(AssertionError, match=f"expected .*{text}"):
        optimizer.repeats_with_its_period(Renewing(declared=declared))


def test_the_operation_that_only_some_steps_run_is_named():
    with pytest.raises(AssertionError, match=r"aten._linalg_eigh.default of \(2, 2\)|aten.eye"):
        optimizer.repeats_with_its_period(Renewing(declared=1))


@pytest.mark.parametrize("every", [50, 100, 110, 200])
def test_work_every_hundredth_step_is_seen_where_none_is_declared(every):
    with pytest.raises(AssertionError, match="after the 1 step"):
        optimizer.repeats_with_its_period(Renewing(every=every, declared=1))


def test_work_that_repeats_at_no_period_is_caught():
    done = []

    def step():
        done.append(None)
        if len(done) in (30, 37, 39, 53, 60, 79):
            torch.ones(1)

    with pytest.raises(AssertionError, match="No other period shows in 60 steps"):
        repeats(Renewing(declared=1), step, 60)


def test_the_first_steps_may_differ():
    optimizer.repeats_with_its_period(Renewing(late=6))


def test_what_changes_over_time_is_skipped():
    with pytest.raises(pytest.skip.Exception, match="changes over time"):
        optimizer.repeats_with_its_period(Renewing(grows=True))


def test_a_slots_period_counts():
    class Slow(CovarianceSketch):
        """A sketch that is renewed every four steps."""

        name = "slow"

        @property
        def period(self):
            return 4

        def build(self, size, device):
            raise NotImplementedError

    class Holding(Renewing):
        """An optimizer with such a sketch."""

        name = "holding"
        sketch: CovarianceSketch = Field(Slow(), description="Its sketch.")

    optimizer.repeats_with_its_period(Holding(every=12, declared=6))
    with pytest.raises(AssertionError, match=r"to be the 6 step\(s\) .* it declares 12"):
        optimizer.repeats_with_its_period(Holding(every=6, declared=6))


def recorded(rows, value):
    x = torch.full((rows, 3), value)
    with Recorder() as recorder:
        (x @ torch.ones(3, 2)).relu()
    return recorder.operations


def test_operations_are_told_apart_by_shapes_and_not_by_values():
    assert recorded(4, 1.0) == recorded(4, -1.0)
    assert recorded(4, 1.0) != recorded(5, 1.0)


def test_the_inner_dimension_of_a_product_is_told():
    def product(inner):
        left, right = torch.ones(2, inner), torch.ones(inner, 2)
        with Recorder() as recorder:
            left @ right
        return recorder.operations

    assert product(3) != product(4)


def test_operations_of_a_backward_pass_are_told():
    w = nn.Parameter(torch.ones(3))
    with Recorder() as recorder:
        w.exp().sum().backward()
    assert [name for name, *_ in recorder.operations].count("aten.mul.Tensor") == 1
