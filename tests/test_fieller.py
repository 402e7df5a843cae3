"""Quotients of means over pairs, with Fieller's interval: its definition, and its coverage."""

import math
import random

import pytest

from sketchbench import statistics


def pairs(n, seed=0, numerator=1.0, denominator=2.0, spread=0.3, shared=0.5):
    """Pairs whose two members share some of their noise, as a method's and the baseline's do."""
    rng = random.Random(seed)
    found = []
    for _ in range(n):
        common = rng.gauss(0, spread)
        a, b = (rng.gauss(0, spread) for _ in range(2))
        found.append((numerator + shared * common + a, denominator + common + b))
    return found


@pytest.mark.parametrize("n", [2, 3, 5, 40])
@pytest.mark.parametrize("seed", range(5))
def test_the_ends_are_where_the_paired_test_decides(n, seed):
    """At an end θ the mean of a − θb is just told from 0: its p-value is 5 %."""
    from scipy import stats

    given = pairs(n, seed, spread=0.05)
    found = statistics.quotient(given)
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(sum(a for a, _ in given) / sum(b for _, b in given))
    for end in (found.low, found.high):
        p = stats.ttest_1samp([a - end * b for a, b in given], 0).pvalue
        assert p == pytest.approx(0.05, rel=1e-6)


@pytest.mark.parametrize("n", [3, 5, 20])
def test_the_interval_covers_the_quotient_of_expectations_in_95_of_100(n):
    """Truth: 4000 samples; a share of 0.95 has a standard error of 0.0034."""
    covered = 0
    for seed in range(4000):
        found = statistics.quotient(pairs(n, seed, spread=0.1))
        assert found.low is not None
        covered += found.low <= 0.5 <= found.high
    assert covered / 4000 == pytest.approx(0.95, abs=4 * 0.0034)


def test_a_constant_denominator_gives_the_interval_of_the_mean():
    given = [(a, 2.0) for a, _ in pairs(6)]
    mean, found = statistics.mean(a for a, _ in given), statistics.quotient(given)
    assert (found.low, found.high) == pytest.approx((mean.low / 2, mean.high / 2), rel=1e-12)


@pytest.mark.parametrize("factor", [1.0, 0.0, -3.0])
def test_proportional_pairs_have_an_interval_of_no_width(factor):
    found = statistics.quotient([(factor * b, b) for _, b in pairs(5, spread=0.05)])
    assert (found.low, found.value, found.high) == pytest.approx([factor] * 3, abs=1e-9)


def test_a_denominator_that_may_be_zero_leaves_nothing_to_say():
    given = [(1.0, -0.1), (1.0, 0.3), (1.0, 0.0)]
    found = statistics.quotient(given)
    assert math.isnan(found.value)
    assert (found.low, found.high, found.n, found.of) == (None, None, 3, 3)
    assert found.below == statistics.mean(b for _, b in given)


def test_one_pair_has_a_quotient_and_no_interval():
    assert statistics.quotient([(1.0, 2.0)]) == statistics.Quotient(0.5, None, None, 1, 1)
    assert math.isnan(statistics.quotient([(1.0, 0.0)]).value)


def test_incomplete_pairs_only_count():
    given = pairs(4, spread=0.05)
    found = statistics.quotient([*given, (None, 1.0), (1.0, math.nan)])
    assert (found.n, found.of) == (4, 6)
    assert found.value == statistics.quotient(given).value
    nothing = statistics.quotient([(None, None)])
    assert (nothing.n, nothing.of, nothing.below) == (0, 1, None)


def test_units_scale_the_interval_and_large_ones_do_not_overflow():
    given = pairs(5, spread=0.05)
    found, scaled = (
        statistics.quotient([(a * over, b * under) for a, b in given])
        for over, under in ((1, 1), (1e200, 1e-100))
    )
    expected = (found.low * 1e300, found.value * 1e300, found.high * 1e300)
    assert (scaled.low, scaled.value, scaled.high) == pytest.approx(expected, rel=1e-9)
