"""Bounds of the regret: true for each method, and broken by players that don't learn."""

import math

import pytest
import sketchbench_frequent_directions as fd
import torch
from sketchbench_frequent_directions.online.rows import absorb_row
from sketchbench_frequent_directions.sketch import empty
from torch import nn

D, ROUNDS, RADIUS = 12, 250, 0.7
DIAMETER = 2 * RADIUS
KINDS = ["drifting", "turning", "low-rank"]


def drawn(kind, seed=0, rounds=ROUNDS):
    """Costs (rounds, D) with a mean that stays, or turns half way; or in four directions."""
    rng = torch.Generator().manual_seed(seed)
    noise = torch.randn(rounds, D, generator=rng, dtype=torch.double)
    mean = torch.zeros(rounds, D, dtype=torch.double)
    mean[:, 0] = 1
    if kind == "turning":
        mean[rounds // 2 :] = mean[0].roll(1)
    if kind == "low-rank":
        noise[:, 4:] = 0
    return mean + 0.05 * noise


def played(recipe, rows, logistic=False, sense=1.0, adversarial=False):
    """Regret within the ball, its bound by the method; `sense` −1 climbs.

    Against the best fixed point of linear costs, and of logistic losses a feasible one, which
    bounds the regret from below. An adversary turns the sign of each cost against the player.
    """
    point = nn.Parameter(torch.zeros(D, dtype=torch.double))
    optimizer = recipe.build([point])
    moment = torch.zeros(D, D, dtype=torch.double)
    suffered, costs = 0.0, []
    for row in rows:
        if adversarial and row @ point.detach() < 0:
            row = -row
        costs.append(row)
        margin = row @ point.detach()
        suffered += (torch.nn.functional.softplus(margin) if logistic else margin).item()
        gradient = row * torch.sigmoid(margin) if logistic else row
        moment += torch.outer(gradient, gradient)
        point.grad = sense * gradient
        optimizer.step()
        assert point.detach().norm() <= RADIUS * (1 + 1e-12)
    rows = torch.stack(costs)
    total = rows.sum(0)
    fixed = rows @ (-RADIUS * total / total.norm())
    best = torch.nn.functional.softplus(fixed).sum() if logistic else fixed.sum()
    stated = getattr(optimizer, "guarantee", lambda *_: math.nan)(moment, DIAMETER)
    return suffered - best.item(), stated


METHODS = [
    *(fd.SAdagrad(rank=rank, radius=RADIUS) for rank in (2, 4, D)),  # turning costs have two
    fd.SAdagrad(rank=4, radius=RADIUS, delta=0.1),
    fd.AdagradFull(radius=RADIUS),
    fd.AdagradDiagonal(radius=RADIUS),
    fd.AdagradDiagonal(radius=RADIUS, delta=0.1),
]


@pytest.mark.parametrize(
    ("kind", "logistic"), [*((kind, False) for kind in KINDS), ("drifting", True)]
)
@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.name}-{getattr(m, 'rank', '')}")
def test_the_regret_is_within_the_guarantee_and_without_learning_it_is_not(method, kind, logistic):
    rows = drawn(kind)
    recipe = method.model_copy(update={"lr": DIAMETER / math.sqrt(2)})
    found, bound = played(recipe, rows, logistic)
    assert found <= bound
    assert found > 0 or kind == "turning"  # no fixed point is as good as one that turns
    slow, loose = played(method.model_copy(update={"lr": 0.05}), rows, logistic)
    assert slow <= loose
    # Of linear costs the bound is the same for all players: one that none could break says nothing.
    still, _ = played(fd.OGD(lr=0.0, radius=RADIUS), rows, logistic)
    climbing, _ = played(recipe, rows, logistic, sense=-1.0)
    assert climbing > bound
    assert still > bound


@pytest.mark.parametrize("method", METHODS, ids=lambda m: f"{m.name}-{getattr(m, 'rank', '')}")
def test_an_adversary_does_not_break_the_guarantee(method):
    rows = torch.randn(ROUNDS, D, generator=torch.Generator().manual_seed(3)).double()
    recipe = method.model_copy(update={"lr": DIAMETER / math.sqrt(2)})
    found, bound = played(recipe, rows, adversarial=True)
    assert 0 < found <= bound


@pytest.mark.parametrize("rank", [1, 4, D - 1])
@pytest.mark.parametrize("kind", [*KINDS, "flat"])
def test_each_half_of_the_guarantee_of_s_adagrad_is_a_bound(rank, kind):
    """tr H_T, and Σ gᵀH_t⁺g, against a dense H."""
    rows = drawn(kind) if kind != "flat" else torch.randn(ROUNDS, D).double()
    sketch = empty(D, rank, dtype=torch.double)
    paid = 0.0
    for row in rows:
        sketch = absorb_row(sketch, row, 1.0, 1.0)
        kept = sketch.vectors * sketch.roots
        metric = kept @ kept.mT + sketch.tail * torch.eye(D, dtype=torch.double)
        values, vectors = torch.linalg.eigh(metric)
        inverse = torch.where(values > 1e-12 * values[-1], values, math.inf).rsqrt()
        paid += float((inverse * (vectors.mT @ row).square()).sum())
    held = float(values.clamp_min(0).sqrt().sum())
    moment = rows.mT @ rows
    trace = float(torch.linalg.eigvalsh(moment).clamp_min(0).sqrt().sum())
    assert metric.trace() - moment.trace() == pytest.approx(
        (D - rank - 1) * sketch.tail.item(), abs=1e-9 * moment.trace().item()
    )
    optimizer = fd.SAdagrad(rank=rank).build([nn.Parameter(torch.zeros(D).double())])
    halves = []
    for rate in (1e-9, 1e9):  # D²/2η·tr H_T is all, or η·tr G^½ is
        optimizer.param_groups[0]["lr"] = rate
        halves.append(optimizer.guarantee(moment, 1.0))
    assert held <= halves[0] * 2e-9 * (1 + 1e-9)
    assert paid / 2 <= halves[1] / 1e9 * (1 + 1e-9)
    assert halves[1] / 1e9 == pytest.approx(trace)


def test_the_guarantee_of_s_adagrad_takes_the_least_over_k():
    """Of λ = (100, 1, 1, 1) at ℓ = 3: k = 1 gives 3/2, where k = 2 has 2 and k = 0 has 103/3."""
    moment = torch.diag(torch.tensor([1.0, 100.0, 1.0, 1.0])).double()
    point = nn.Parameter(torch.zeros(4, dtype=torch.double))
    found = fd.SAdagrad(rank=2, lr=0.5, delta=0.25).build([point]).guarantee(moment, 2.0)
    escaped = math.sqrt(4 * 1 * 1.5)
    assert found == pytest.approx(4 / (2 * 0.5) * (13 + escaped + 4 * 0.5) + 0.5 * 13)


def test_the_guarantee_of_adagrad_s_diagonal_is_that_of_its_entries():
    moment = torch.tensor([[4.0, 3.0], [3.0, 9.0]]).double()
    point = nn.Parameter(torch.zeros(2, dtype=torch.double))
    for delta, roots in ((0.0, 2 + 3), (16.0, 20**0.5 + 5)):
        found = fd.AdagradDiagonal(lr=0.5, delta=delta).build([point]).guarantee(moment, 3.0)
        assert found == pytest.approx((9 / (2 * 0.5) + 0.5) * roots)


def test_no_bound_is_stated_where_the_theorem_says_nothing():
    moment = torch.eye(D, dtype=torch.double)
    point = nn.Parameter(torch.zeros(D, dtype=torch.double))
    for recipe in (
        fd.SAdagrad(beta2=0.9),
        fd.SAdagrad(update_every=2),
        fd.SAdagrad(solver="subspace"),
    ):
        assert recipe.build([point]).guarantee(moment, 1.0) is None
