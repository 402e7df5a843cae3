import math
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchbench import statistics

SIZES = (2, 3, 5, 10, 40)
moderate = st.floats(-1e6, 1e6).filter(lambda x: x == 0 or abs(x) > 1e-6)


def sample(n, seed=0, mean=1.0):
    rng = random.Random(seed)
    return [rng.gauss(mean, 0.3) for _ in range(n)]


@pytest.mark.parametrize("n", SIZES)
def test_mean_has_the_interval_of_scipys_one_sample_test(n):
    from scipy import stats

    values = sample(n)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    found = statistics.mean(values)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)
    assert (found.n, found.of) == (n, n)


@pytest.mark.parametrize("n", SIZES)
def test_difference_has_the_interval_of_scipys_paired_test(n):
    from scipy import stats

    these, those = sample(n, 1), sample(n, 2)
    low, high = stats.ttest_rel(these, those).confidence_interval(0.95)
    found = statistics.difference(zip(these, those, strict=True))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


@pytest.mark.parametrize("n", SIZES)
def test_ratio_has_the_exponentiated_paired_interval_of_logs(n):
    from scipy import stats

    these, those = sample(n, 1, 5.0), sample(n, 2, 2.0)
    logs = [math.log(x) for x in these], [math.log(x) for x in those]
    low, high = stats.ttest_rel(*logs).confidence_interval(0.95)
    found = statistics.ratio(zip(these, those, strict=True))
    assert (found.low, found.high) == pytest.approx((math.exp(low), math.exp(high)), rel=1e-12)


@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 99, 10_000])
def test_quantile_is_scipys(freedom):
    from scipy import stats

    assert statistics.quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-13)


def test_two_values_have_the_interval_in_closed_form():
    found = statistics.mean([1.0, 3.0])  # t of one degree of freedom is that of a Cauchy variable
    assert found.value == 2.0
    assert found.half_width == pytest.approx(math.tan(math.pi * 0.475), rel=1e-12)


def test_geometric_mean_of_ratios():
    found = statistics.ratio([(2.0, 1.0), (8.0, 1.0)])
    assert found.value == pytest.approx(4.0)
    assert found.low * found.high == pytest.approx(16.0)


def test_one_value_has_no_interval():
    assert statistics.mean([2.0]) == statistics.Mean(2.0, None, 1, 1)
    assert statistics.mean([2.0]).low is None
    assert statistics.ratio([(1.0, 2.0)]) == statistics.Ratio(0.5, None, None, 1, 1)
    assert statistics.difference([(1.0, 2.0)]).undecided() is None


def test_no_value_is_nan_with_a_count():
    found = statistics.mean([])
    assert math.isnan(found.value)
    assert (found.half_width, found.n, found.of) == (None, 0, 0)


def test_missing_and_non_finite_values_only_count():
    found = statistics.mean([1.0, None, math.nan, math.inf, 3.0])
    assert (found.value, found.n, found.of) == (2.0, 2, 5)


def test_incomplete_pairs_only_count():
    pairs = [(2.0, 1.0), (None, 1.0), (3.0, math.nan), (3.0, 1.0)]
    assert (statistics.difference(pairs).n, statistics.difference(pairs).of) == (2, 4)
    assert (statistics.ratio(pairs).n, statistics.ratio(pairs).of) == (2, 4)


@pytest.mark.parametrize("bad", [0.0, -1.0])
def test_ratios_of_what_is_not_positive_only_count(bad):
    assert statistics.ratio([(bad, 1.0), (1.0, bad), (2.0, 1.0)]).n == 1


@pytest.mark.parametrize("value", [0.1, 0.0, -1e300, 1e-320, 3.0])
@pytest.mark.parametrize("n", [2, 3, 7])
def test_identical_values_have_an_interval_of_no_width(value, n):
    assert statistics.mean([value] * n) == statistics.Mean(value, 0.0, n, n)


@pytest.mark.parametrize("size", [1e307, 1e200, 1e-200, 1e-307])
def test_extreme_values_neither_overflow_nor_vanish(size):
    found = statistics.mean([size, 1.5 * size])
    assert found.value == pytest.approx(1.25 * size)
    assert found.half_width / size == pytest.approx(0.25 * math.tan(math.pi * 0.475))


def test_a_half_width_beyond_the_range_is_infinite():
    assert statistics.mean([-1.7e308, 1.7e308]).half_width == math.inf


def test_an_overflowing_difference_only_counts():
    assert statistics.difference([(1.7e308, -1.7e308), (1.0, 0.0)]).n == 1


def test_ratios_at_the_ends_of_the_range():
    assert statistics.ratio([(1e308, 1e-308)] * 2).value == math.inf
    assert statistics.ratio([(1e-308, 1e308)] * 2).value == 0.0
    assert statistics.ratio([(4e-310, 2e-310)] * 2).value == pytest.approx(2.0)


@given(st.lists(moderate, min_size=2, max_size=8), st.integers(-30, 30))
def test_scaling_by_a_power_of_two_scales_the_interval_exactly(values, power):
    found = statistics.mean(values)
    scaled = statistics.mean([math.ldexp(value, power) for value in values])
    assert scaled.value == math.ldexp(found.value, power)
    assert scaled.half_width == math.ldexp(found.half_width, power)


@given(st.lists(moderate, min_size=2, max_size=8), st.randoms())
def test_the_order_of_values_does_not_matter(values, rng):
    shuffled = rng.sample(values, len(values))
    assert statistics.mean(shuffled) == statistics.mean(values)


def test_undecided_where_the_interval_holds_no_change():
    same, other = [(1.0, 1.1), (1.1, 1.0)], [(2.0, 1.0), (2.1, 1.0), (2.0, 1.01)]
    assert statistics.difference(same).undecided()
    assert statistics.ratio(same).undecided()
    assert statistics.difference(other).undecided() is False
    assert statistics.ratio(other).undecided() is False


def test_equal_pairs_are_undecided():
    assert statistics.difference([(1.0, 1.0)] * 3).undecided()
    assert statistics.ratio([(3.0, 3.0)] * 3).undecided()


def test_what_seeds_can_decide():
    from scipy import stats

    assert statistics.decidable(1) == math.inf
    assert statistics.decidable(5) == pytest.approx(stats.t.ppf(0.975, 4) / math.sqrt(5))
    assert statistics.decidable(20) < statistics.decidable(5) < statistics.decidable(2)


def test_the_interval_covers_the_truth_95_times_in_100():
    rng, runs = random.Random(1), 4000
    samples = (statistics.mean([rng.gauss(0, 1) for _ in range(3)]) for _ in range(runs))
    covered = sum(found.low <= 0 <= found.high for found in samples)
    deviation = math.sqrt(runs * 0.95 * 0.05)
    assert abs(covered - 0.95 * runs) < 4 * deviation


def test_import_needs_neither_scipy_nor_torch():
    code = "import sys, sketchbench.statistics; print({'scipy', 'torch'} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "set()\n"
