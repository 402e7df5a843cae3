"""Scores of distortion, against closed forms."""

import math

import pytest
import torch

from sketchbench import Missing
from sketchbench.builtin.metrics.distortion import (
    ConditionalKappa,
    FailureBound,
    FailureRate,
    InnerRMSE,
    Kappa,
    NormBias,
)
from sketchbench.builtin.workloads.distortion import Conditional, InnerProducts, Norms


def norms(*columns, out_size=8, names=()):
    """Norms ‖Sx‖² of several vectors, each a list over draws, of ‖x‖² = 1."""
    approx = torch.tensor(columns, dtype=torch.double).mT
    return Norms(torch.ones_like(approx), approx, out_size, names)


def test_an_isometry_has_no_kappa_no_bias_and_no_failure():
    outcome = norms([1.0] * 5)
    for score in (Kappa(), NormBias(), FailureRate()):
        assert score(outcome) == 0


@pytest.mark.parametrize("out_size", [2, 32])
def test_a_dense_gaussian_has_a_kappa_of_one(out_size):
    # ‖Sx‖² is χ²/D with an excess kurtosis of 12/D: n draws' variance is off by √((2 + 12/D)/n).
    n = 20_000
    rng = torch.Generator().manual_seed(0)
    drawn = torch.randn(n, 1, out_size, generator=rng, dtype=torch.double)
    squared = drawn.square().mean(-1)
    outcome = Norms(torch.ones_like(squared), squared, out_size)
    assert Kappa()(outcome) == pytest.approx(1, abs=4.5 * math.sqrt((2 + 12 / out_size) / n))
    assert NormBias()(outcome) < 4.5 * math.sqrt(2 / (out_size * n))


def test_kappa_is_relative_to_the_norm():
    one, two = norms([0.5, 1.5]), norms([0.5, 1.5])
    scaled = Norms(4 * two.exact, 4 * two.approx, 8)
    assert Kappa()(one) == Kappa()(scaled) == pytest.approx(8 * 0.5 / 2)


def test_a_bias_is_no_variance():
    assert Kappa()(norms([3.0, 3.0])) == 0
    assert NormBias()(norms([3.0, 3.0])) == pytest.approx(2)
    assert NormBias()(norms([0.0, 1.0])) == pytest.approx(0.5)


def test_a_single_draw_has_no_variance():
    with pytest.raises(Missing, match="`repeats`"):
        Kappa()(norms([1.0]))


def test_inputs_are_chosen_by_name_averaged_or_the_worst():
    outcome = norms([1.0, 1.0], [0.0, 2.0], out_size=2, names=("axis", "pair"))
    values = {name: Kappa(input=name)(outcome) for name in ("axis", "pair", "mean", "worst")}
    assert values == {"axis": 0, "pair": 2, "mean": 1, "worst": 2}
    with pytest.raises(Missing, match="no input 'ones' here: axis, pair"):
        Kappa(input="ones")(outcome)
    conditional = Conditional(torch.tensor([[1.0, 3.0], [2.0, 4.0]]), ("axis", "pair"))
    assert ConditionalKappa(input="pair")(conditional) == 3.5


def test_failures_are_norms_off_by_more_than_epsilon():
    inside, outside = [1.19**2, 0.81**2], [1.21**2, 0.79**2, 0.0, math.nan, math.inf]
    outcome = norms(inside + outside)
    assert FailureRate(epsilon=0.2)(outcome) == pytest.approx(5 / 7)
    assert FailureRate(epsilon=0.1)(outcome) == 1


@pytest.mark.parametrize("failures", [0, 1, 7])
def test_the_bound_is_that_of_clopper_and_pearson(failures):
    """Truth: with that rate, so few failures have a probability of 1 − confidence."""
    draws, p = 20, FailureBound(confidence=0.95)(norms([0.0] * failures + [1.0] * (20 - failures)))
    below = sum(math.comb(draws, k) * p**k * (1 - p) ** (draws - k) for k in range(failures + 1))
    assert below == pytest.approx(0.05)


def test_the_bound_is_the_worst_vectors_and_one_where_all_fail():
    outcome = norms([1.0, 1.0], [1.0, 0.0])
    assert FailureBound()(outcome) == FailureBound()(norms([1.0, 0.0]))
    assert FailureBound()(norms([0.0, 0.0])) == 1


def test_the_error_of_inner_products_is_a_root_mean_square():
    exact = torch.full((2, 2), 0.5, dtype=torch.double)
    approx = exact + torch.tensor([[0.1, -0.1], [0.3, 0.3]])
    assert InnerRMSE()(InnerProducts(exact, approx)) == pytest.approx(math.sqrt(0.05))
