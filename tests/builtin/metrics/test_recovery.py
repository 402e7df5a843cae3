import pytest

from sketchbench import Missing
from sketchbench.builtin import RecoveryHalfLife


class Curve:
    def __init__(self, *values, every=10, better="higher"):
        self.values, self.every, self.better = values, every, better

    def direction(self, metric, where=None):
        assert (metric, where) == ("cosine", "probe")
        return self.better

    def curve(self, metric, where=None):
        return [(i * self.every, value, 0.0) for i, value in enumerate(self.values)]


def half_life(*values, better="higher", **fields):
    return RecoveryHalfLife(**({"shift": 30} | fields)).derive(Curve(*values, better=better))


def test_it_ends_where_half_of_the_loss_is_regained():
    assert half_life(0.9, 0.9, 0.9, 0.3, 0.5, 0.59, 0.61, 0.9) == 30
    assert half_life(0.9, 0.9, 0.9, 0.3, 0.9) == 10


def test_points_before_the_low_do_not_end_it():
    assert half_life(0.9, 0.9, 0.9, 0.8, 0.1, 0.4, 0.6) == 30


def test_the_level_before_is_a_mean_of_the_last_points():
    assert half_life(0.0, 1.0, 0.8, 0.5, 0.69, 0.71, points=2) == 20


def test_a_curve_that_never_comes_back_is_undefined():
    assert half_life(0.9, 0.9, 0.9, 0.3, 0.4, 0.5) is None


def test_a_lower_curve_may_be_the_better_one():
    assert half_life(0.1, 0.1, 0.1, 0.9, 0.6, 0.4, better="lower") == 20


def test_without_a_fall_there_is_nothing_to_regain():
    with pytest.raises(Missing, match=r"it fell by less than 0.05 at step 30"):
        half_life(0.9, 0.9, 0.9, 0.88, 0.9)


@pytest.mark.parametrize("values", [(0.9, 0.9), (0.9, 0.9, 0.9)])
def test_a_curve_on_one_side_only_says_nothing(values):
    with pytest.raises(Missing, match="no point on both sides of step 30"):
        half_life(*values)
