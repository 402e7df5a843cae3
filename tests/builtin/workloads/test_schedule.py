import math

import pytest

from sketchbench.builtin.workloads.schedule import factor


def test_constant_is_one():
    assert [factor("constant", step, 5) for step in range(5)] == [1.0] * 5


def test_the_warm_up_rises_linearly_to_one():
    found = [factor("constant", step, 8, warmup=4) for step in range(8)]
    assert found == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]


def test_step_falls_at_each_drop():
    found = [factor("step", step, 6, drops=(2, 4), decay=0.5) for step in range(6)]
    assert found == [1, 1, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("warmup", [0, 10])
def test_cosine_falls_over_the_steps_after_the_warm_up(warmup):
    total = warmup + 100
    found = [factor("cosine", step, total, warmup=warmup) for step in range(warmup, total)]
    assert found[0] == 1.0
    assert found[50] == pytest.approx(0.5)
    assert found[25] == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert found[99] == pytest.approx(math.sin(math.pi / 200) ** 2)
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("warmup", [0, 3, 10])
def test_cosine_stays_where_it_ended_beyond_its_steps(warmup):
    last = factor("cosine", 9, 10, warmup=warmup)
    assert {factor("cosine", step, 10, warmup=warmup) for step in range(10, 40)} == {last}


def test_a_spike_lasts_for_its_steps_alone():
    found = [factor("spike", step, 6, warmup=1, spike=range(3, 5), height=7.0) for step in range(6)]
    assert found == [1, 1, 1, 7, 7, 1]
