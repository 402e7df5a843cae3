"""Adaptive rank: the a-posteriori error, the two rules, and what a change does."""

import pytest
import torch
from pydantic import ValidationError
from sketchbench_tri_sketch import EmaBasis, TriSketch, Unbiased
from sketchbench_tri_sketch.bases import SVDOracle
from sketchbench_tri_sketch.controllers import ByError, ByLoss, Ranks
from sketchbench_tri_sketch.probe import Probed, reconstruction
from sketchbench_tri_sketch.reading import Reading
from sketchbench_tri_sketch.tropp import Tropp
from torch import Generator, nn
from torch.nn import functional as F

ROWS, WIDTH, PROBES, DRAWS = 130, 130, 10, 300


def rng(seed=0):
    return Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def of_spectrum(values):
    left = torch.linalg.qr(normal(ROWS, len(values)))[0]
    return left * values @ torch.linalg.qr(normal(WIDTH, len(values), seed=1))[0].mT


class Nothing(Reading):
    """Keeps nothing: its error is A itself."""

    method = "nothing"

    def keep(self, rows, outputs, update):
        return [rows.new_zeros(rows.shape[1])], None

    def gradient(self, delta, kept, note):
        return delta.new_zeros(delta.shape[1], len(kept[0]))


ONE = torch.tensor([1.0], dtype=torch.float64)
HARMONIC = 1 / torch.arange(1.0, 51, dtype=torch.float64)
TAIL = 1 / torch.arange(3.0, 131, dtype=torch.float64)  # what rank two leaves of 1/i
FLAT = torch.ones(128, dtype=torch.float64)


def squared_errors(values, draws=DRAWS):
    """Return ‖Θ(A−Â)‖²/(q‖A‖²) of single steps, for an error A−Â = A with this spectrum."""
    probed, matrix, delta = Probed(Nothing(), PROBES, rng(4)), of_spectrum(values), normal(ROWS, 1)
    found = []
    for _ in range(draws):
        probed.gradient(delta, *probed.keep(matrix, None, update=True))
        found.append(probed.error())
    return torch.stack(found)


@pytest.mark.parametrize(
    ("values", "about"), [(ONE, 0.22), (TAIL, 0.078), (FLAT, 0.02)], ids=["rank one", "1/i", "flat"]
)
def test_the_estimate_is_right_in_the_mean_square_and_as_spread_as_stated(values, about):
    """Var ‖ΘE‖²/q = 2‖EEᵀ‖²/q, so that its root has the relative spread ‖EEᵀ‖/(√(2q)‖E‖²)."""
    sample = squared_errors(values)
    spread = float(values.pow(4).sum().sqrt() / values.square().sum()) / (2 * PROBES) ** 0.5
    assert spread == pytest.approx(about, rel=0.05)
    standard_error = 2 * spread / DRAWS**0.5
    assert abs(float(sample.mean()) - 1) <= 5 * standard_error
    assert float(sample.sqrt().std()) == pytest.approx(spread, rel=5 / (2 * DRAWS) ** 0.5 + 0.05)


def test_the_estimate_is_that_of_the_reconstruction():
    matrix = of_spectrum(HARMONIC)
    lost = torch.linalg.norm(reconstruction(Tropp(5, 11, rng()), matrix) - matrix) ** 2
    probed = Probed(Tropp(5, 11, rng()), 20_000, rng(4))
    kept, note = probed.keep(matrix, None, update=True)
    probed.gradient(normal(ROWS, 3), kept, note)
    expected = lost / torch.linalg.norm(matrix) ** 2
    assert float(probed.error()) == pytest.approx(float(expected), rel=5 * (2 / 20_000) ** 0.5)


def test_a_probe_leaves_the_gradient_alone_and_keeps_its_sketch():
    matrix, delta = of_spectrum(HARMONIC), normal(ROWS, 3)
    plain = Tropp(5, 11, rng())
    kept, note = plain.keep(matrix, None, update=True)
    probed = Probed(Tropp(5, 11, rng()), PROBES, rng(4))
    more, wrapped = probed.keep(matrix, None, update=True)
    torch.testing.assert_close(
        probed.gradient(delta, more, wrapped), plain.gradient(delta, kept, note)
    )
    assert [tuple(each.shape) for each in more[len(kept) :]] == [(PROBES, WIDTH), ()]


def test_errors_are_averaged_over_steps_and_start_again():
    probed = Probed(Nothing(), PROBES, rng(4))
    assert probed.error() is None
    for scale in (1.0, 3.0):
        probed.gradient(normal(ROWS, 1), *probed.keep(scale * of_spectrum(FLAT), None, True))
    assert float(probed.error()) == pytest.approx(1, rel=0.2)
    assert probed.error() is None


def test_a_matrix_of_zeros_has_no_error():
    probed = Probed(Tropp(5, 11, rng()), PROBES, rng(4))
    probed.gradient(torch.ones(8, 2), *probed.keep(torch.zeros(8, 6), None, update=True))
    assert float(probed.error()) == 0


def ranks(rank=4):
    return Ranks(rank, least=2, most=8, up=3, down=1)


class Ranked(Nothing):
    """Remembers the ranks that it was given, and has the error that it is told."""

    def __init__(self, error=None):
        super().__init__()
        self.ranks, self._error = [], error

    def resize(self, rank):
        self.ranks.append(rank)

    def error(self):
        return None if self._error is None else torch.tensor(self._error**2)


def decided(rule, losses, readings=None):
    """Return the rank after each epoch."""
    readings = [Ranked()] if readings is None else readings
    found = []
    for loss in losses:
        rule.decide(loss, readings)
        found.append(rule.ranks.rank)
    return found


def test_patience_raises_the_rank_where_the_loss_stagnates_up_to_the_greatest():
    rule = ByLoss(ranks(), improvement=0.01, up=2, down=3)
    losses = [1.0, 1.0, 0.995, 2.0, 1.0, 1.0, 1.0]
    assert decided(rule, losses) == [4, 4, 7, 7, 8, 8, 8]


def test_patience_lowers_the_rank_where_the_loss_falls_down_to_the_least():
    rule = ByLoss(ranks(3), improvement=0.01, up=2, down=3)
    assert decided(rule, [9, 8, 7, 6, 5, 4, 3.0]) == [3, 3, 2, 2, 2, 2, 2]


def test_patience_counts_epochs_in_a_row():
    rule = ByLoss(ranks(), improvement=0.01, up=2, down=3)
    assert decided(rule, [1.0, 1.0, 0.9, 0.9, 0.8, 0.8]) == [4] * 6


@pytest.mark.parametrize(
    ("errors", "expected"),
    [([0.9, 0.6, 0.1], 7), ([0.05, 0.05, 0.9], 3), ([0.3, 0.9, 0.0], 4), ([None], 4)],
)
def test_the_median_layers_error_decides(errors, expected):
    rule = ByError(ranks(), low=0.1, high=0.5)
    readings = [Ranked(error) for error in errors]
    assert decided(rule, [1.0], readings) == [expected]
    assert all(reading.ranks == ([] if expected == 4 else [expected]) for reading in readings)


def test_a_change_is_an_event_that_says_why():
    (event,) = ByError(ranks(), 0.1, 0.5).decide(1.0, [Ranked(0.9), Ranked(0.7)])
    assert event.what == "rank"
    assert event.details == {
        "layers": 2,
        "from": 4,
        "to": 7,
        "why": "median relative error 0.8 is above 0.5",
    }
    rule = ByLoss(ranks(), 0.0, up=1, down=9)
    assert rule.decide(1.0, []) == ()
    assert rule.decide(1.0, [])[0].details["why"] == "1 epochs without improvement of the loss 1"


def test_what_a_probe_wraps_is_changed_once():
    inner = Ranked()
    probed = Probed(inner, PROBES, rng())
    ByLoss(ranks(), 0.0, up=1, down=9).decide(float("inf"), [probed, inner])
    assert inner.ranks == [7]


def trained(recipe, epochs):
    """Train a small model on noise; return it sketched, and all events."""
    model = nn.Sequential(
        nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3)
    )
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.copy_(normal(*parameter.shape, seed=number) * 0.3)
    inputs = normal(32, 20).float()
    targets = torch.randint(3, (32,), generator=rng())
    sketched, events = recipe.build(model, 32, rng(1)), []
    for _ in range(epochs):
        for _ in range(4):
            sketched.accumulate(inputs, targets, F.cross_entropy)
        events += sketched.end_epoch(1.0)
    return sketched, events


@pytest.mark.parametrize(
    "recipe",
    [TriSketch(rank=1, rank_min=1, adapt="error"), EmaBasis(rank=1, rank_min=1, adapt="error")],
    ids=lambda recipe: recipe.name,
)
def test_by_error_the_rank_of_all_layers_goes_up_until_enough_is_kept(recipe):
    sketched, events = trained(recipe, epochs=8)
    assert events
    assert [event.details["from"] for event in events] == [
        1,
        *(event.details["to"] for event in events[:-1]),
    ]
    probes = [each for each in sketched.model.modules() if isinstance(each, Probed)]
    columns = {_columns(each.reading) for each in probes}
    assert columns == {2 * events[-1].details["to"] + 1}
    assert all(event.details["layers"] == len(probes) == 3 for event in events)


def _columns(reading):
    return reading.size if isinstance(reading, Tropp) else reading.k


@pytest.mark.parametrize("recipe", [EmaBasis, Unbiased])
def test_other_readings_of_a_rank_adapt_too(recipe):
    sketched, (event,) = trained(recipe(rank_max=3, adapt="loss-patience"), epochs=4)
    assert event.details["to"] == 3
    assert {each.k for each in sketched.model.modules() if isinstance(each, Reading)} == {7}


def test_the_error_of_an_unbiased_sketch_tells_no_rank():
    with pytest.raises(ValidationError, match="adapt 'error' isn't for 'unbiased'"):
        Unbiased(adapt="error")


def test_by_patience_a_constant_loss_raises_the_rank():
    recipe = TriSketch(rank=1, rank_min=1, rank_max=3, beta=0.9, adapt="loss-patience")
    sketched, (event,) = trained(recipe, epochs=4)
    assert (event.details["from"], event.details["to"]) == (1, 3)
    assert not any(isinstance(each, Probed) for each in sketched.model.modules())


def test_a_recipe_that_adapts_says_that_it_changes():
    assert not TriSketch().changing
    assert TriSketch(adapt="error").changing
    _, events = trained(TriSketch(), epochs=3)
    assert not events


def test_a_reading_without_a_rank_refuses_another():
    with pytest.raises(NotImplementedError, match="svd-oracle has no rank to change"):
        SVDOracle().reading(8, 4, 2, rng()).resize(3)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"rank": 1}, "rank 1 isn't between rank_min 2 and rank_max 16"),
        ({"columns": 5}, "columns can't be given with adapt"),
        ({"error_low": 0.6}, "error_low 0.6 isn't below error_high 0.5"),
    ],
)
def test_what_cannot_adapt_is_refused(fields, match):
    with pytest.raises(ValidationError, match=match):
        TriSketch(adapt="error", **fields)


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_an_error_that_is_not_finite_is_above_every_bound(odd):
    rule = ByError(ranks(), low=0.1, high=0.5)
    assert decided(rule, [1.0], [Ranked(odd), Ranked(odd), Ranked(0.05)]) == [7]
    assert decided(rule, [1.0], [Ranked(0.3), Ranked(0.3), Ranked(odd)]) == [7]
