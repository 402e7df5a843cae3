"""Stream: what rows are drawn, what a sketch is given of them, and what it is compared with."""

import math

import pytest
import torch
from pydantic import ValidationError

from sketchbench import Approximation, CovarianceSketch, Field
from sketchbench.builtin import ApplyTime, CovarianceError, Stream
from sketchbench.builtin.workloads.stream import Estimated
from sketchbench.linalg import symmetric_power
from sketchbench.run import Run, Wanted

CPU = torch.device("cpu")
EPS = torch.finfo(torch.float64).eps


class Recorded(CovarianceSketch):
    """The exact covariance in float64; keeps what it was given."""

    name = "test-recorded"
    beta2: float = Field(1.0)
    rank: int = Field(3)

    @property
    def decay(self):
        return self.beta2

    def build(self, size, device):
        return _Live(size, self.beta2)


class _Live:
    given = []  # of the estimate that was built last

    def __init__(self, size, beta2):
        self.matrix = torch.zeros(size, size, dtype=torch.float64)
        self.beta2, self.tail = beta2, torch.zeros(())
        _Live.given = []

    def update(self, rows):
        _Live.given.append(rows)
        self.matrix = self.beta2 * self.matrix + rows.double().mT @ rows.double()

    def dense(self):
        return self.matrix.clone()

    def power(self, x, exponent, ridge):
        return symmetric_power(self.matrix, exponent, ridge) @ x.double()


class Kept(Run):
    """A run that keeps the outcomes."""

    def __init__(self, seed=0, wanted=()):
        super().__init__(CPU, seed, wanted)
        self.outcomes = {}

    def deliver(self, name, outcome, at=None):
        super().deliver(name, outcome, at)
        self.outcomes[name, at] = outcome() if callable(outcome) else outcome

    def last(self, name):
        return [outcome for (found, _), outcome in self.outcomes.items() if found == name][-1]


def streamed(seed=0, sketch=None, **fields):
    """Return the run and what the sketch was given."""
    given = {"size": 12, "rounds": 8, "rows": 3, "planted": 3, "checkpoints": 2} | fields
    run = Kept(seed)
    Stream(sketch=sketch or Recorded(), **given).run(run)
    return run, _Live.given


@pytest.mark.parametrize("observe", ["last", "mean"])
@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize("beta2", [1.0, 0.9])
def test_what_was_observed_is_what_an_exact_sketch_holds(beta2, every, observe):
    run, _ = streamed(sketch=Recorded(beta2=beta2), observe_every=every, observe=observe)
    outcome = run.last("observed")
    assert isinstance(outcome, Estimated)
    bound = 100 * EPS * outcome.exact.norm().item()
    torch.testing.assert_close(outcome.exact, outcome.dense, rtol=0, atol=bound)
    assert (outcome.rank, outcome.decay, outcome.tail, outcome.whole) == (3, beta2, 0.0, True)


def test_the_exact_covariance_is_the_decayed_sum_over_all_rows():
    run, rows = streamed(sketch=Recorded(beta2=0.5))
    expected = sum(0.5 ** (7 - t) * a.double().mT @ a.double() for t, a in enumerate(rows))
    torch.testing.assert_close(run.last("stream").exact, expected)


def test_skipping_changes_what_is_observed_and_not_the_truth():
    (all_of_it, rows), (skipping, some) = streamed(), streamed(observe_every=4)
    assert torch.equal(all_of_it.last("stream").exact, skipping.last("stream").exact)
    assert not skipping.last("stream").whole
    assert skipping.last("observed").whole
    assert len(some) == 2
    torch.testing.assert_close(some[0], 2 * rows[3])
    torch.testing.assert_close(some[1], 2 * rows[7])


@pytest.mark.parametrize(
    ("observe", "weighted", "expected"),
    [
        ("last", False, lambda blocks: blocks[3]),
        ("mean", False, lambda blocks: sum(blocks) / 4),
        ("mean", True, lambda blocks: sum(blocks)),
    ],
)
def test_what_stands_for_skipped_blocks(observe, weighted, expected):
    _, rows = streamed()
    _, some = streamed(observe_every=4, observe=observe, weighted=weighted)
    torch.testing.assert_close(some[0], expected(rows[:4]))


@pytest.mark.parametrize("observe", ["last", "mean"])
def test_the_weights_are_right_on_average(observe):
    """The trace of what is observed over that of C, whose expectation is 1.

    With 2000 updates of d = 12 equal eigenvalues the numerator has a relative deviation of
    √(2/(2000·12)), the denominator half of it.
    """
    fields = {"rounds": 8000, "rows": 1, "spectrum": "flat", "checkpoints": 1}
    run, _ = streamed(observe_every=4, observe=observe, **fields)
    ratio = float(run.last("observed").exact.trace() / run.last("stream").exact.trace())
    assert ratio == pytest.approx(1, abs=5 * 1.5 * math.sqrt(2 / 24_000))


@pytest.mark.parametrize(
    ("fields", "values"),
    [
        ({"spectrum": "power", "exponent": 2.0}, lambda i: i**-2.0),
        ({"spectrum": "exponential"}, lambda i: 10 ** ((1 - i) / 4)),
        ({"spectrum": "flat"}, lambda i: i**0.0),
        ({"spectrum": "low-rank", "noise": 0.04}, lambda i: torch.where(i <= 3, 1.0, 0.04)),
    ],
)
def test_rows_have_the_covariance_that_was_planted(fields, values):
    """Entries along the axes are independent: a variance over n rows is χ²/n, off by √(2/n)."""
    rows = 20_000
    workload = Stream(sketch=Recorded(), size=12, planted=3, **fields)
    run = Run(CPU, 0)
    axes = workload._axes(run.rng("axes"))
    drawn = workload._rows(axes, 0, rows, run.rng("rows")).double() @ axes
    expected = values(torch.arange(1, 13, dtype=torch.float64))
    found = drawn.square().mean(0) / expected
    assert (found - 1).abs().max() < 5 * math.sqrt(2 / rows)
    scaled = drawn / expected.sqrt()
    correlations = (scaled.mT @ scaled / rows).fill_diagonal_(0)
    assert correlations.abs().max() < 5 / math.sqrt(rows)


def test_leading_axes_turn_by_the_stated_angle_an_update():
    """Without noise a block spans the leading space: cosines of principal angles are cos(θt)."""
    angle = 0.1
    _, rows = streamed(spectrum="low-rank", noise=0.0, drift=angle, rounds=16)
    first, *later = (torch.linalg.qr(a.double().mT)[0] for a in rows)
    for step, space in enumerate(later, start=1):
        cosines = torch.linalg.svdvals(first.mT @ space)
        expected = torch.full_like(cosines, abs(math.cos(angle * step)))
        torch.testing.assert_close(cosines, expected, rtol=0, atol=1e-5)  # rows are float32


def test_turned_axes_stay_orthonormal():
    workload = Stream(sketch=Recorded(), size=12, planted=3, drift=0.7)
    axes = workload._turned(workload._axes(Run(CPU, 0).rng("axes")), 5)
    torch.testing.assert_close(axes.mT @ axes, torch.eye(12, dtype=torch.float64))


def test_directions_are_those_of_the_exact_power():
    run, _ = streamed(rounds=16)
    outcome = run.last("direction")
    assert isinstance(outcome, Approximation)
    assert outcome.exact.shape == (12, 8)
    torch.testing.assert_close(outcome.approx, outcome.exact)


def test_checkpoints_are_evenly_spaced_and_the_last_is_the_end():
    run, _ = streamed(rounds=40, observe_every=2, checkpoints=4)
    assert [at for name, at in run.outcomes if name == "stream"] == [10, 20, 30, 40]


def test_one_seed_is_one_stream_whatever_the_sketch():
    (one, rows), (other, same) = streamed(seed=3), streamed(seed=3, sketch=Recorded(rank=5))
    assert all(torch.equal(a, b) for a, b in zip(rows, same, strict=True))
    assert torch.equal(one.last("stream").exact, other.last("stream").exact)
    assert not torch.equal(rows[0], streamed(seed=4)[1][0])


def test_a_recipe_without_a_rank_has_none():
    class Rankless(Recorded):
        name = "test-rankless"
        rank: None = Field(None)

    assert streamed(sketch=Rankless())[0].last("stream").rank is None


def test_errors_are_curves_and_powers_are_timed():
    wanted = [Wanted(CovarianceError(), "stream"), Wanted(ApplyTime(), "apply")]
    run = Kept(wanted=wanted)
    Stream(sketch=Recorded(), size=8, rounds=12, planted=3, checkpoints=4).run(run)
    error, seconds = run.measurements()
    assert error.at == [3, 6, 9, 12]
    assert error.value < 100 * EPS
    assert seconds.parts["occurrences"] == 2  # of four, two are warm-up
    assert seconds.value > 0


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"planted": 13}, "planted 13 is more than size 12"),
        ({"planted": 7, "drift": 0.1}, "size 12 has too few: take at least 14"),
        ({"observe_every": 3}, "rounds 8 is no multiple of observe_every 3"),
        ({"checkpoints": 9}, "checkpoints 9 are more than the 8 updates"),
        ({"observe_every": 4, "checkpoints": 3}, "checkpoints 3 are more than the 2 updates"),
        ({"spectrum": "steep"}, "'power', 'low-rank', 'flat' or 'exponential'"),
    ],
)
def test_unfit_fields_are_refused(fields, text):
    with pytest.raises(ValidationError) as caught:
        streamed(**fields)
    assert text in str(caught.value)
