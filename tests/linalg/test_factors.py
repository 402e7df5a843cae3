import itertools
import math

import pytest

from sketchbench.linalg import balanced, factorised, orders_up_to, padded


def test_padding_is_to_the_next_power_of_two():
    assert [padded(n) for n in (1, 2, 3, 4, 5, 1023, 1024, 1025)] == [
        1, 2, 4, 4, 8, 1024, 1024, 2048,
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_balanced_powers_of_two_differ_by_two_at_most(count):
    for bits in range(20):
        factors = balanced(1 << bits, count)
        assert math.prod(factors) == 1 << bits
        assert sorted(factors, reverse=True) == list(factors)
        assert factors[0] <= 2 * factors[-1]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("spread", [1.0, 2.0])
def test_factors_of_any_size_are_the_best_of_all(count, spread):
    """Every choice of factors within the spread is tried."""
    for size in range(1, 120, 7):
        root = size ** (1 / count)
        allowed = range(max(1, math.floor(root / spread)), math.ceil(root * spread) + 1)
        choices = itertools.combinations_with_replacement(reversed(allowed), count)
        fit = [each for each in choices if math.prod(each) >= size]
        best = min(fit, key=lambda each: (math.prod(each), each[0] / each[-1]))
        found = factorised(size, count, spread)
        key = (math.prod(found), found[0] / found[-1])
        assert key == (math.prod(best), best[0] / best[-1]), size
        assert list(found) == sorted(found, reverse=True)


@pytest.mark.parametrize(
    ("size", "count", "factors"),
    [
        (124_439_808, 3, (622, 521, 384)),  # the parameters of GPT-2, exactly
        (10**9, 3, (1000, 1000, 1000)),
        (1, 4, (1, 1, 1, 1)),
        (97, 1, (97,)),
    ],
)
def test_factors_of_known_sizes(size, count, factors):
    assert factorised(size, count) == factors


def test_bad_input_is_named():
    for call, said in (
        (lambda: balanced(12, 2), "balanced: 12 is no power of two"),
        (lambda: balanced(8, 0), "balanced: 0 factors"),
        (lambda: factorised(0, 2), "factorised: 0 into 2 factors"),
        (lambda: factorised(8, 0), "factorised: 8 into 0 factors"),
        (lambda: factorised(8, 2, 0.5), "factorised: spread 0.5 is below 1"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


@pytest.mark.parametrize("largest", [2, 16, 64, 1024])
@pytest.mark.parametrize("size", [1, 2, 3, 16, 17, 1000, 2**16, 2**20 + 1])
def test_the_fewest_orders_that_none_is_too_large(largest, size):
    orders = orders_up_to(largest, size)
    assert math.prod(orders) == padded(size)
    assert max(orders) <= largest
    assert max(orders) <= 2 * min(orders)
    assert largest ** (len(orders) - 1) < padded(size) or len(orders) == 1
