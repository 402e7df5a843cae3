"""The three-sketch reconstruction, against its bound, exact cases and closed forms."""

import warnings

import pytest
import torch
from pydantic import ValidationError
from sketchbench_tri_sketch import TriSketch
from sketchbench_tri_sketch.ema import EMA
from sketchbench_tri_sketch.probe import Probed, reconstruction
from sketchbench_tri_sketch.triangular import least_squares
from sketchbench_tri_sketch.tropp import Tropp
from torch import Generator, nn

ROWS, WIDTH = 128, 256
SPECTRA = {
    "1/i": lambda i: 1 / i,
    "1/i²": lambda i: 1 / i**2,
    "10^(-(i-1)/4)": lambda i: 10 ** (-(i - 1) / 4),
    "rank 5 and noise": lambda i: torch.where(i <= 5, 1.0, 0.01),
}


def rng(seed=0):
    return Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def of_spectrum(values, rows=ROWS, width=WIDTH, seed=0):
    """Return A (rows, width) with these singular values."""
    left = torch.linalg.qr(normal(rows, len(values), seed=seed))[0]
    right = torch.linalg.qr(normal(width, len(values), seed=seed + 1))[0]
    return left * values @ right.mT


def ratios(values, rank, core_size, draws):
    """Return ‖A−Â‖/τ_{r+1} (draws,) of fresh projections."""
    matrix = of_spectrum(values)
    tail = torch.linalg.vector_norm(values[rank:])
    reading = Tropp(2 * rank + 1, core_size, rng(9), fresh=True)
    errors = [torch.linalg.norm(reconstruction(reading, matrix) - matrix) for _ in range(draws)]
    return torch.stack(errors) / tail


def rms(values):
    return float(values.square().mean().sqrt())


@pytest.mark.parametrize("rank", [2, 4])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_error_stays_below_root_six_of_the_tail_in_the_mean_square(spectrum, rank):
    values = SPECTRA[spectrum](torch.arange(1.0, 65, dtype=torch.float64))
    size = 2 * rank + 1
    assert rms(ratios(values, rank, 2 * size + 1, draws=100)) <= 6**0.5


def test_a_core_of_the_size_of_the_sketches_has_no_such_bound():
    values = SPECTRA["1/i"](torch.arange(1.0, 65, dtype=torch.float64))
    assert rms(ratios(values, 2, core_size=5, draws=100)) > 4 * 6**0.5


@pytest.mark.parametrize("rank", [1, 5])
@pytest.mark.parametrize("fresh", [False, True])
def test_a_matrix_of_no_greater_rank_comes_back(rank, fresh):
    matrix = normal(ROWS, rank) @ normal(rank, WIDTH, seed=1)
    found = reconstruction(Tropp(5, 11, rng(), fresh), matrix)
    assert torch.linalg.norm(found - matrix) <= 1e-12 * torch.linalg.norm(matrix)


@pytest.mark.parametrize(("rows", "width"), [(3, 40), (40, 3), (2, 2), (1, 1)])
def test_a_matrix_smaller_than_its_sketches_comes_back(rows, width):
    matrix = normal(rows, width)
    found = reconstruction(Tropp(5, 11, rng()), matrix)
    assert torch.linalg.norm(found - matrix) <= 1e-11 * torch.linalg.norm(matrix)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_dead_units_give_no_nan(decay):
    reading = Tropp(5, 5, rng(), decay=decay)
    for matrix in (torch.zeros(8, 6), torch.zeros(8, 6), torch.eye(8, 6)):
        assert reconstruction(reading, matrix).isfinite().all()
    assert not reconstruction(Tropp(5, 11, rng()), torch.zeros(8, 6)).any()


def test_its_gradient_is_that_of_its_reconstruction():
    matrix, delta = normal(ROWS, WIDTH), normal(ROWS, 10, seed=3)
    expected = delta.mT @ reconstruction(Tropp(5, 11, rng()), matrix)
    reading = Tropp(5, 11, rng())
    torch.testing.assert_close(
        reading.gradient(delta, *reading.keep(matrix, None, update=True)), expected
    )


def ema(batches, decay):
    total = torch.zeros_like(batches[0])
    for batch in batches:
        total = decay * total + (1 - decay) * batch
    return total


def test_sketches_of_the_ema_are_the_ema_of_sketches():
    decay, batches = 0.95, [normal(ROWS, WIDTH, seed=seed) for seed in range(60)]
    running = Tropp(5, 11, rng(1), decay=decay)
    for batch in batches:
        kept, _ = running.keep(batch, None, update=True)
    expected, _ = Tropp(5, 11, rng(1)).keep(ema(batches, decay), None, update=True)
    for found, wanted in zip(kept, expected, strict=True):
        assert torch.linalg.norm(found - wanted) <= 1e-12 * torch.linalg.norm(wanted)


@pytest.mark.parametrize("corrected", [True, False])
def test_an_ema_of_low_rank_comes_back_divided_by_its_mass_if_asked(corrected):
    decay, steps = 0.9, 7
    basis = normal(3, WIDTH, seed=50)
    batches = [normal(ROWS, 3, seed=seed) @ basis for seed in range(steps)]
    reading = Tropp(7, 15, rng(), decay=decay, corrected=corrected)
    for batch in batches:
        found = reconstruction(reading, batch)
    expected = ema(batches, decay) / (1 - decay**steps if corrected else 1)
    torch.testing.assert_close(found, expected)


def test_a_shorter_batch_is_one_filled_up_with_zeros():
    whole, part = normal(8, 20), normal(5, 20, seed=1)
    padded = nn.functional.pad(part, (0, 0, 0, 3))
    delta = normal(8, 4, seed=2)
    gradients = []
    for batch in (part, padded):
        reading = Tropp(3, 7, rng(), decay=0.9)
        reading.keep(whole, None, update=True)
        kept, note = reading.keep(batch, None, update=True)
        shown = delta if len(batch) == 8 else delta[:5]
        gradients.append(
            reading.gradient(shown * (torch.arange(len(shown)) < 5)[:, None], kept, note)
        )
    torch.testing.assert_close(*gradients)


def test_a_longer_batch_than_the_emas_is_refused():
    reading = Tropp(3, 7, rng(), decay=0.9)
    reading.keep(normal(5, 20), None, update=True)
    with pytest.raises(ValueError, match="an EMA of batches of 5 rows can't take one of 8"):
        reading.keep(normal(8, 20), None, update=True)


def test_a_recomputation_moves_nothing_and_keeps_the_same():
    for settings in ({"fresh": True}, {"decay": 0.9}):
        reading, batch = Tropp(3, 7, rng(), **settings), normal(8, 20)
        first, note = reading.keep(batch, None, update=True)
        before = reading.state_dict()
        again, note_again = reading.keep(batch, None, update=False)
        assert note == note_again
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
        after = reading.state_dict()
        assert str(before) == str(after)


def test_what_a_backward_pass_still_needs_outlives_the_next_batch():
    reading, delta = Tropp(3, 7, rng(), decay=0.9), normal(8, 4, seed=2)
    kept, note = reading.keep(normal(8, 20), None, update=True)
    before = reading.gradient(delta, kept, note)
    reading.keep(normal(8, 20, seed=1), None, update=True)
    assert torch.equal(reading.gradient(delta, kept, note), before)


def test_it_goes_on_from_its_state_dict():
    reading, batch = Tropp(3, 7, rng(), decay=0.9), normal(8, 20)
    reading.keep(batch, None, update=True)
    reading.resize(3)
    reading.keep(batch, None, update=True)
    other = Tropp(3, 7, rng(5), decay=0.9)
    other.load_state_dict(reading.state_dict())
    left, right = (reconstruction(each, normal(8, 20, seed=3)) for each in (reading, other))
    assert torch.equal(left, right)


def test_another_rank_starts_anew():
    reading, batch = Tropp(3, 7, rng(), decay=0.9), normal(8, 20)
    (x, _, _), _ = reading.keep(batch, None, update=True)
    reading.resize(4)
    assert reading.core.total is None
    (wide, _, core), note = reading.keep(batch, None, update=True)
    assert (wide.shape, core.shape) == ((9, 20), (19, 19))
    assert note["mass"] == pytest.approx(0.1)
    assert not torch.isin(wide, x).any()


def test_projections_are_not_drawn_anew_while_an_ema_lives():
    reading = Tropp(3, 7, rng(), decay=0.9)
    reading.redraw()
    reading.keep(normal(8, 20), None, update=True)
    with pytest.raises(RuntimeError, match="tri-sketch: an EMA over 1 steps lives on its proj"):
        reading.redraw()


def test_an_ema_without_decay_holds_nothing():
    average, batch = EMA(0.0), normal(3, 4)
    assert average.averaged(batch, update=True) is batch
    assert average.total is None
    assert average.mass == 1


def test_least_squares_are_those_of_lapack():
    matrix, right = normal(11, 5), normal(11, 3, seed=1)
    expected = torch.linalg.lstsq(matrix, right).solution
    torch.testing.assert_close(least_squares(matrix, right), expected)
    assert least_squares(torch.zeros(4, 2), torch.ones(4, 3)).isfinite().all()


def built(**fields):
    return TriSketch(**fields).reading(16, 8, 4, rng())


def test_sizes_follow_from_the_rank():
    reading = built(rank=3)
    assert (reading.size, reading.core_size) == (7, 15)
    assert built(rank=3, columns=4).core_size == 9
    with pytest.warns(UserWarning, match="the mean error has no bound"):
        assert built(rank=3, oversampling="none").core_size == 7


def test_the_bound_is_not_missed_without_a_warning():
    with pytest.warns(UserWarning, match="needs s > k \\+ 1"):
        built(core_size=6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        built(core_size=7)


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"projections": "fresh", "beta": 0.9}, "projections 'fresh' need beta 0, not 0.9"),
        ({"core_size": 4}, "core_size 4 is less than k = 5"),
        ({"core": "candidate-p1", "oversampling": "none"}, "takes no oversampling: s is k"),
        ({"core": "candidate-p2", "projections": "fresh"}, "takes no projections"),
        ({"core_size": 11, "adapt": "error"}, "core_size can't be given with adapt"),
    ],
)
def test_what_cannot_be_built_is_refused(fields, match):
    with pytest.raises(ValidationError, match=match):
        TriSketch(**fields)


def test_a_batch_that_is_refused_changes_no_sketch():
    reading = Tropp(3, 7, rng(), decay=0.9)
    reading.keep(normal(8, 6), None, update=True)
    before = [sketch.total for sketch in (reading.inputs, reading.outputs, reading.core)]
    with pytest.raises(ValueError, match="an EMA of batches of 8 rows can't take one of 9"):
        reading.keep(normal(9, 6), None, update=True)
    after = [sketch.total for sketch in (reading.inputs, reading.outputs, reading.core)]
    assert all(a is b for a, b in zip(after, before, strict=True))
    assert reading.inputs.steps == reading.core.steps == 1


def test_a_probe_lets_its_reading_draw_anew_or_refuse():
    fresh, held = (Probed(Tropp(3, 7, rng(), decay=d), 2, rng(1)) for d in (0.0, 0.9))
    seeds = fresh.seed, fresh.reading.seed
    fresh.redraw()
    assert fresh.seed != seeds[0]
    assert fresh.reading.seed != seeds[1]
    held.keep(normal(8, 6), None, update=True)
    seeds = held.seed, held.reading.seed
    with pytest.raises(RuntimeError, match="an EMA over 1 steps lives on its projections"):
        held.redraw()
    assert (held.seed, held.reading.seed) == seeds
