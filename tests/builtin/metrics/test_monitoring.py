import math

import pytest
import scipy.stats
import torch

from sketchbench import Missing, Trace
from sketchbench.builtin import (
    DetectionDelay,
    FalseAlarms,
    LogCorrelation,
    MonitorBytes,
    RankCorrelation,
)
from sketchbench.builtin.metrics.flags import Rules, flags
from sketchbench.builtin.metrics.monitoring import ranks

RNG = torch.Generator().manual_seed(0)
STEPS = 40


def trace(estimates=None, truth=None, losses=None, fault=None, onset=None, every=1):
    steps = len(next(iter(estimates.values()))) if estimates else STEPS
    truth = torch.ones(steps, 2).double() if truth is None else truth
    estimates = {"norm": truth} if estimates is None else estimates
    return Trace(
        layers=("a", "b"),
        at=torch.arange(0, steps * every, every),
        estimates=estimates,
        truth=truth,
        losses=torch.ones(steps).double() if losses is None else losses,
        steps_per_epoch=10,
        fault=fault,
        onset=onset,
        held=123,
    )


def noisy():
    truth = torch.randn(STEPS, 2, generator=RNG, dtype=torch.float64).exp()
    return truth, truth * torch.randn(STEPS, 2, generator=RNG, dtype=torch.float64).exp()


def test_ranks_are_scipys():
    values = torch.randint(6, (50,), generator=RNG).double()
    assert ranks(values).tolist() == scipy.stats.rankdata(values).tolist()


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (RankCorrelation(), lambda a, b: scipy.stats.spearmanr(a, b)[0]),
        (LogCorrelation(), lambda a, b: scipy.stats.pearsonr(a.log(), b.log())[0]),
    ],
)
def test_correlations_are_medians_over_layers_of_scipys(score, expected):
    truth, estimate = noisy()
    layers = [expected(estimate[:, i], truth[:, i]) for i in range(2)]
    assert score(trace({"norm": estimate}, truth)) == pytest.approx(sum(layers) / 2)


@pytest.mark.parametrize("score", [RankCorrelation(), LogCorrelation()])
def test_steps_without_a_value_are_left_out(score):
    truth, estimate = noisy()
    some, gap = estimate.clone(), torch.tensor([math.nan])
    some[3], some[7] = gap, math.inf
    kept = [i for i in range(STEPS) if i not in (3, 7)]
    assert score(trace({"norm": some}, truth)) == pytest.approx(
        score(trace({"norm": estimate[kept]}, truth[kept]))
    )


def test_the_estimate_is_the_first_or_the_one_that_is_named():
    truth, estimate = noisy()
    both = trace({"norm": truth, "other": estimate}, truth)
    assert RankCorrelation()(both) == pytest.approx(1)
    assert RankCorrelation(estimate="other")(both) < 0.99
    with pytest.raises(Missing, match="no 'third': norm, other"):
        RankCorrelation(estimate="third")(both)


def test_an_estimate_that_never_varies_has_no_correlation():
    with pytest.raises(Missing, match="varies"):
        RankCorrelation()(trace())


def test_bytes_are_what_the_watcher_said():
    assert MonitorBytes()(trace()) == 123


# ---------------------------------------------------------------- flags


def raised(estimate, losses=None, **rules):
    losses = torch.ones(len(estimate)).double() if losses is None else losses
    return flags(estimate, losses, Rules(**rules))


def test_a_layer_far_below_the_others_vanishes():
    estimate = torch.tensor([[1.0, 1.0, 1e-7], [1.0, 1.0, 1e-5]]).double()
    found = raised(estimate, below_loss=None)["vanishing"]
    assert found.tolist() == [[False, False, True], [False] * 3]


def test_a_small_gradient_vanishes_while_the_loss_is_large():
    estimate = torch.full((2, 2), 0.01).double()
    found = raised(estimate, torch.tensor([1.0, 0.01]).double(), below_loss=0.1)["vanishing"]
    assert found.tolist() == [[True, True], [False, False]]


def test_a_jump_over_the_running_median_explodes():
    estimate = torch.ones(STEPS, 2).double()
    estimate[20, 1] = 6
    found = raised(estimate, above_median=5.0)["exploding"]
    assert found.nonzero().tolist() == [[20, 1]]


def test_a_running_median_needs_finite_values_not_steps():
    estimate = torch.ones(STEPS, 2).double()
    estimate[:20, 0], estimate[:20, 1] = math.nan, -math.inf
    estimate[[22, 26]] = 100  # after two values, and after six
    found = raised(estimate, above_median=5.0)["exploding"]
    assert found[20:].nonzero().tolist() == [[6, 0], [6, 1]]


def test_what_is_large_from_the_start_shows_against_a_ceiling_only():
    estimate = torch.full((STEPS, 2), 1e6).double()
    assert not raised(estimate)["exploding"].any()
    assert raised(estimate, above=10.0)["exploding"].all()


def test_what_is_not_finite_explodes_and_what_is_not_there_does_not():
    estimate = torch.tensor([[math.inf, 1.0], [math.nan, 1.0], [1.0, 1.0]]).double()
    losses = torch.tensor([1.0, 1.0, math.nan]).double()
    assert raised(estimate, losses)["exploding"].tolist() == [
        [True, False],
        [False, False],
        [True, True],
    ]


def test_a_still_norm_at_a_still_and_high_loss_stagnates():
    still, falling = torch.ones(150, 2).double(), torch.linspace(2, 0.5, 150).double()
    moving = still * torch.linspace(1, 3, 150).double()[:, None]
    assert raised(still)["stagnating"][-1].all()
    assert not raised(still)["stagnating"][:99].any()
    assert not raised(still, falling)["stagnating"].any()
    assert not raised(moving)["stagnating"].any()
    assert not raised(still, 0.01 * torch.ones(150).double())["stagnating"].any()


# ---------------------------------------------------------------- delays and alarms


def spiked(at, **fields):
    estimate = torch.ones(STEPS, 2).double()
    estimate[at] = 100
    return trace({"norm": estimate}, **fields)


def test_the_delay_is_counted_in_steps_from_the_onset():
    assert DetectionDelay()(spiked(23, fault="spike", onset=20)) == 3
    assert DetectionDelay()(spiked(23, fault="spike", onset=40, every=2)) == 6


def test_flags_before_the_onset_and_of_another_kind_detect_nothing():
    assert DetectionDelay()(spiked(10, fault="spike", onset=20)) == 20
    assert DetectionDelay()(spiked(23, fault="vanishing", onset=20)) == 20


def test_an_alarm_that_stands_at_the_onset_detects_nothing_until_it_is_raised_anew():
    standing = torch.ones(STEPS, 2).double()
    standing[15:, 0] = 100
    delay = DetectionDelay(above=50.0, above_median=None)
    fault = {"fault": "spike", "onset": 20}
    assert delay(trace({"norm": standing}, **fault)) == 20
    standing[23, 0] = 1
    assert delay(trace({"norm": standing}, **fault)) == 4
    standing[22, 1] = 100  # another layer's
    assert delay(trace({"norm": standing}, **fault)) == 2


def test_an_alarm_at_the_onset_itself_has_no_delay():
    assert DetectionDelay()(spiked(20, fault="spike", onset=20)) == 0
    estimate = torch.full((STEPS, 2), 1e-3).double()
    assert DetectionDelay()(trace({"norm": estimate}, fault="vanishing", onset=0)) == 0


def test_a_healthy_training_has_no_delay():
    with pytest.raises(Missing, match="healthy"):
        DetectionDelay()(trace())


def test_alarms_are_counted_when_they_are_raised():
    estimate = torch.ones(STEPS, 2).double()
    estimate[[10, 11, 12, 30]] = 100
    assert FalseAlarms()(trace({"norm": estimate})) == 2 / 4
    assert FalseAlarms()(trace({"norm": estimate}, fault="spike", onset=20)) == 1 / 2
    assert FalseAlarms()(trace({"norm": estimate}, every=2)) == 2 / 8


def test_an_alarm_that_stands_is_one_in_every_epoch():
    estimate = torch.full((STEPS, 2), 100.0).double()
    assert FalseAlarms(above=50.0)(trace({"norm": estimate})) == 1
    assert FalseAlarms(above=50.0)(trace({"norm": estimate}, every=2)) == 1
    estimate[:5], estimate[25:] = 1, 1  # from one epoch into the third of four
    assert FalseAlarms(above=50.0)(trace({"norm": estimate})) == 3 / 4


def test_a_fault_from_the_first_step_on_leaves_nothing_healthy():
    with pytest.raises(Missing, match="no step is healthy"):
        FalseAlarms()(trace(fault="vanishing", onset=0))
