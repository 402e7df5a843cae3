"""Sampled rows: unbiased over draws, exact where nothing is left to chance."""

import pytest
import torch
from sketchbench_tri_sketch import CRS, WTACRS
from sketchbench_tri_sketch.probe import reconstruction
from sketchbench_tri_sketch.rows import probabilities
from torch import Generator

DRAWS = 1000
RECIPES = [CRS(rank=1), WTACRS(rank=1), WTACRS(rank=3), WTACRS(columns=1)]


def rng(seed=0):
    return Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def uneven(rows=12, width=3):
    return normal(rows, width) * torch.logspace(0, 2, rows, dtype=torch.float64)[:, None]


def reading_of(recipe):
    return recipe.reading(3, 2, 12, rng(7))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.label())
def test_it_is_unbiased(recipe):
    matrix, reading = uneven(), reading_of(recipe)
    sample = torch.stack([reconstruction(reading, matrix) for _ in range(DRAWS)])
    bound = 5 * sample.std(0) / DRAWS**0.5 + 1e-12 * matrix.abs()
    rare = (sample != 0).sum(0) < 30  # a row that is drawn too seldom to tell its error
    assert ((sample.mean(0) - matrix).abs() <= bound)[~rare].all()
    assert rare.sum() < rare.numel() * 0.6


def test_many_draws_of_one_step_come_to_the_matrix():
    matrix = uneven()
    off = reconstruction(reading_of(CRS(columns=10**6)), matrix) - matrix
    errors = matrix.abs() * (1 / probabilities(matrix)[:, None] / 10**6).sqrt()
    assert (off.abs() <= 5 * errors).all()


def test_its_variance_is_the_closed_form():
    """E‖ĝ − g‖² = (Σ ‖δᵢ‖²‖aᵢ‖²/pᵢ − ‖g‖²)/k. [Drineas, Kannan & Mahoney 2006, Lemma 3]"""
    matrix, delta, reading = uneven(), normal(12, 2, seed=1), reading_of(CRS(rank=2))
    exact, shares = delta.mT @ matrix, probabilities(matrix)
    weights = delta.square().sum(1) * matrix.square().sum(1) / shares
    expected = (weights.sum() - exact.square().sum()) / 5
    errors = []
    for _ in range(DRAWS):
        kept, note = reading.keep(matrix, None, update=True)
        errors.append((reading.gradient(delta, kept, note) - exact).square().sum())
    sample = torch.stack(errors)
    assert abs(sample.mean() - expected) <= 5 * sample.std() / DRAWS**0.5


def test_winners_lower_the_variance():
    matrix = uneven()
    variances = []
    for recipe in (CRS(rank=3), WTACRS(rank=3)):
        reading = reading_of(recipe)
        sample = torch.stack([reconstruction(reading, matrix) for _ in range(DRAWS // 2)])
        variances.append(float(sample.var(0).sum()))
    assert variances[1] < variances[0]


def test_the_likeliest_rows_are_kept_as_they_are():
    matrix = torch.full((10, 3), 1e-3)
    matrix[3], matrix[8] = 5.0, -7.0
    found = reconstruction(reading_of(WTACRS(rank=1)), matrix)
    assert torch.equal(found[[3, 8]], matrix[[3, 8]])


@pytest.mark.parametrize("shares", ["even", "uneven", "one"])
def test_as_many_rows_win_as_leave_the_least_to_each_draw(shares):
    size, rows = 5, 12
    matrix = {"even": torch.ones(rows, 3), "uneven": uneven().float(), "one": torch.eye(rows, 3)}
    found = reading_of(WTACRS(rank=2)).keep(matrix[shares], None, update=True)[0][2]
    ordered = probabilities(matrix[shares]).sort(descending=True).values
    left = [(1 - ordered[:c].sum()) / (size - c) for c in range(size)]
    best = min(left)
    winners = int((found == 1).sum())
    assert left[min(winners, size - 1)] <= best + 1e-6


def test_one_row_is_exact():
    for recipe in RECIPES:
        torch.testing.assert_close(reconstruction(reading_of(recipe), normal(1, 3)), normal(1, 3))


def test_no_more_rows_than_winners_are_exact():
    matrix = normal(7, 3)
    assert torch.equal(reconstruction(reading_of(WTACRS(rank=3)), matrix), matrix)


@pytest.mark.parametrize("recipe", [CRS(), WTACRS()], ids=lambda recipe: recipe.label())
def test_dead_units_give_no_nan(recipe):
    for matrix in (torch.zeros(12, 3), torch.eye(12, 3)):
        assert reconstruction(reading_of(recipe), matrix).isfinite().all()


@pytest.mark.parametrize("recipe", [CRS(), WTACRS()], ids=lambda recipe: recipe.label())
def test_each_step_draws_anew_and_a_recomputation_the_same(recipe):
    matrix, reading = normal(40, 3), reading_of(recipe)
    first, again, other = (reading.keep(matrix, None, update)[0] for update in (True, False, True))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])


def test_it_keeps_as_many_rows_as_columns_of_a_sketch():
    kept, _ = reading_of(CRS(rank=2)).keep(normal(40, 3).float(), None, update=True)
    assert [tuple(each.shape) for each in kept] == [(5, 3), (5,), (5,)]
    assert sum(each.nbytes for each in kept) == 4 * 5 * 3 + 8 * 5


def rounded_down(width=3):
    """Return rows, the last of them zero, whose shares add up to less than the last uniform."""
    for seed in range(100):
        matrix = normal(1000, width, seed=seed).float()
        matrix[-1] = 0
        if probabilities(matrix).cumsum(0)[-1] < LAST:
            return matrix
    raise AssertionError("expected one of a hundred sums to be rounded down")


LAST = 1 - 2**-24  # the greatest uniform number in float32


@pytest.mark.parametrize("recipe", [CRS(rank=1), WTACRS(rank=1)], ids=lambda recipe: recipe.name)
def test_a_row_of_zeros_is_never_drawn(recipe):
    matrix = rounded_down()
    chosen, weights = reading_of(recipe)._chosen(probabilities(matrix), torch.tensor([LAST] * 3))
    assert matrix[chosen].any(dim=1).all()
    assert (weights < 2**24).all()
