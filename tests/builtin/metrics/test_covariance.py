"""Scores of covariance sketches, on matrices whose eigenvalues are known."""

import math

import pytest
import torch

from sketchbench import Escaped, Missing
from sketchbench.builtin import (
    CovarianceError,
    EscapedMass,
    EscapedOverBound,
    EscapedShare,
    LowerViolation,
    TailShare,
    UpperViolation,
)
from sketchbench.builtin.metrics.covariance import escape_bound
from sketchbench.builtin.workloads.stream import Estimated

C = (8.0, 4.0, 2.0, 1.0)
EXACT = 1e-14  # a rounding or two of numbers near 1


def outcome(held, tail=0.0, exact=C, rank=2, decay=1.0, whole=True):
    """A sketch that holds `held` and has a tail, on the axes of C, in a basis of its own."""
    axes = torch.linalg.qr(
        torch.randn(len(exact), len(exact), generator=torch.Generator().manual_seed(0)).double()
    )[0]
    exact, held = (torch.tensor(v, dtype=torch.float64) for v in (exact, held))
    of = [(axes * values) @ axes.mT for values in (exact, held + tail)]
    return Estimated(*of, tail, rank, decay, whole)


def test_the_error_is_the_largest_deviation_over_the_largest_eigenvalue():
    assert CovarianceError()(outcome((6, 2, 0, 0), tail=1)) == pytest.approx(1 / 8)
    assert CovarianceError()(outcome((8, 4, 0, 0))) == pytest.approx(2 / 8)
    assert CovarianceError()(outcome(C)) < EXACT


@pytest.mark.parametrize(
    ("held", "tail", "lower", "upper"),
    [
        ((6, 2, 0, 0), 2.0, 0.0, 0.0),  # inside
        ((6, 2, 0, 0), 1.0, 0.0, 1.0),  # C is 2 above in the first, second and third; ρ is 1
        ((9, 2, 0, 0), 2.0, 1.0, 0.0),  # what is held is 1 above C
        ((9, 2, 0, 0), 0.5, 1.0, 1.5),
        (C, 0.0, 0.0, 0.0),
    ],
)
def test_violations_are_what_is_beyond_a_bound(held, tail, lower, upper):
    found = outcome(held, tail)
    assert LowerViolation()(found) == pytest.approx(lower / 8, abs=EXACT)
    assert UpperViolation()(found) == pytest.approx(upper / 8, abs=EXACT)


def test_the_tail_is_the_escaped_mass():
    assert EscapedMass()(outcome((6, 2, 0, 0), tail=2.0)) == 2.0


@pytest.mark.parametrize(
    ("rank", "bound"),
    [
        (1, min(15 / 2, 7 / 1)),
        (2, min(15 / 3, 7 / 2, 3 / 1)),
        (3, min(15 / 4, 7 / 3, 3 / 2, 1 / 1)),
        (4, 0.0),
        (9, 0.0),
    ],
)
def test_the_bound_is_the_least_over_all_k_up_to_the_rank(rank, bound):
    assert escape_bound(outcome(C), rank) == pytest.approx(bound, abs=EXACT)


def test_the_bound_of_a_flat_spectrum_is_that_of_k_0():
    flat = outcome((0,) * 4, tail=1.0, exact=(1.0,) * 4)
    assert escape_bound(flat, 2) == pytest.approx(4 / 3) == min(4 / 3, 3 / 2, 2 / 1)
    assert EscapedOverBound()(flat) == pytest.approx(3 / 4)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"rank": None}, "its recipe has no such field"),
        ({"decay": 0.99}, "this sketch decays by 0.99"),
        ({"whole": False}, "rows were skipped"),
        ({"rank": 4}, "no mass behind rank 4"),
        ({"exact": (1.0, 1.0, 0.0, 0.0)}, "no mass behind rank 2"),
    ],
)
def test_without_a_bound_the_quotient_is_missing(fields, why):
    with pytest.raises(Missing, match=why):
        EscapedOverBound()(outcome((1, 1, 0, 0), **fields))


def test_the_share_of_the_tail():
    assert TailShare()(outcome((6, 2, 0, 0), tail=2.0)) == pytest.approx(2 / 10)
    assert TailShare()(outcome((0, 0, 0, 0), tail=2.0)) == pytest.approx(1)
    assert TailShare()(outcome(C)) == 0


def test_the_share_that_escaped_in_training_is_the_median_over_sketches():
    assert EscapedShare()(Escaped(torch.tensor([0.9, 0.1, 0.3]))) == pytest.approx(0.3)
    assert math.isnan(EscapedShare()(Escaped(torch.tensor([0.1, math.nan, 0.3]))))


def test_an_optimizer_that_sketches_nothing_has_no_share():
    with pytest.raises(Missing, match="sketches nothing"):
        EscapedShare()(Escaped(torch.zeros(0)))


def test_a_sketch_of_nothing_has_no_scores():
    nothing = outcome((0, 0, 0, 0), exact=(0.0,) * 4)
    for score in (CovarianceError(), LowerViolation(), UpperViolation(), TailShare()):
        with pytest.raises(Missing):
            score(nothing)


@pytest.mark.parametrize(
    "score", [CovarianceError(), LowerViolation(), UpperViolation(), TailShare(), EscapedMass()]
)
def test_a_sketch_that_is_not_finite_is_not_hidden(score):
    assert math.isnan(score(outcome(C, tail=math.nan)))
