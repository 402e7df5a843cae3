"""The comparator: as good as any feasible point, to its certified gap."""

import pytest
import torch

from sketchbench.builtin.tasks.binary import Binary
from sketchbench.builtin.tasks.digits import Digits
from sketchbench.builtin.tasks.linear_costs import LinearCosts
from sketchbench.builtin.tasks.logistic_stream import LogisticStream
from sketchbench.builtin.workloads.comparator import Fixed, Rounds, best_fixed
from sketchbench.builtin.workloads.regret import unknown

LOGISTIC = LogisticStream(width=6, rank=3, noise=0.2, examples=200)
LINEAR = LinearCosts(shape=(3, 2), spectrum="power", rank=1, examples=50)
GAMES = [
    *((LOGISTIC, radius) for radius in (0.5, 3.0, 1000.0, None)),
    *((Digits(train_limit=100), radius) for radius in (0.5, 3.0, None)),
    *((LINEAR, radius) for radius in (0.5, 1000.0)),
]


@pytest.mark.parametrize(("task", "radius"), GAMES)
def test_no_feasible_point_is_better_than_the_comparator_by_more_than_its_gap(task, radius):
    split = task.load("train")
    rounds = Rounds(task, split.inputs, split.targets)
    fixed = best_fixed(rounds, radius)
    loss = rounds.loss(fixed.point).item()
    assert fixed.gap + 1e-9 >= 0
    assert fixed.gap <= 1e-5 * len(rounds)
    assert radius is None or fixed.point.norm().item() <= radius * (1 + 1e-12)
    rng = torch.Generator().manual_seed(0)
    for size in (1e-3, 0.1, 1.0):
        for _ in range(20):
            step = torch.randn(rounds.shape, generator=rng, dtype=torch.double)
            other = fixed.point + size * step / step.norm()
            if radius is not None:
                other = other * min(1.0, radius / other.norm().item())
            assert rounds.loss(other).item() >= loss - fixed.gap - 1e-9 * abs(loss)


def test_the_best_cost_in_a_ball_is_the_closed_form():
    split = LINEAR.load("train")
    rounds = Rounds(LINEAR, split.inputs, split.targets)
    fixed = best_fixed(rounds, 2.0)
    total = split.inputs.double().sum(0)
    torch.testing.assert_close(fixed.point, -2 * total / total.norm())
    assert abs(fixed.gap) <= 1e-7 * 50


def test_a_minimum_that_is_far_away_is_known_to_many_digits():
    """Odd digits against even ones, of norm 800: the loss has no digits below a gap of 1e-5."""
    task = Binary(task=Digits())
    split = task.load("train")
    fixed = best_fixed(Rounds(task, split.inputs, split.targets), None)
    assert fixed.point.norm() > 100
    assert fixed.gap <= 1e-7 * len(split.targets)


@pytest.mark.parametrize(("gap", "known"), [(1.1e-5, False), (0.9e-5, True)])
def test_a_comparator_known_to_less_than_1e_5_nats_a_round_is_unknown(gap, known):
    told = unknown(Fixed(torch.zeros(1), gap * 100, 1.0), 100)
    assert (told is None) == known
