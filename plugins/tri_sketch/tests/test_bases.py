"""Bases of features: a random one is unbiased or a projection, the best one is LAPACK's."""

import pytest
import torch
from sketchbench_tri_sketch import RandBasis, SVDOracle
from sketchbench_tri_sketch.probe import reconstruction
from torch import Generator

DRAWS = 1500


def rng(seed=0):
    return Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def reading_of(recipe, width=6):
    return recipe.reading(width, 4, 8, rng(3))


def test_fresh_projections_are_unbiased():
    matrix, reading = normal(8, 6), reading_of(RandBasis(rank=1))
    sample = torch.stack([reconstruction(reading, matrix) for _ in range(DRAWS)])
    off = (sample.mean(0) - matrix).abs()
    assert (off <= 5 * sample.std(0) / DRAWS**0.5).all()


def test_the_variance_of_fresh_projections_is_the_closed_form():
    """E‖A − AGGᵀ/k‖² = ‖A‖²(d + 1)/k for Gaussian G (d, k)."""
    matrix, reading = normal(8, 6), reading_of(RandBasis(rank=1))
    errors = [(reconstruction(reading, matrix) - matrix).square().sum() for _ in range(DRAWS)]
    sample, expected = torch.stack(errors), matrix.square().sum() * 7 / 3
    assert abs(sample.mean() - expected) <= 5 * sample.std() / DRAWS**0.5


def test_a_fixed_basis_is_an_orthogonal_projection_for_good():
    reading = reading_of(RandBasis(rank=1, projections="fixed"))
    first, again = (reconstruction(reading, torch.eye(6)) for _ in range(2))
    assert torch.equal(first, again)
    torch.testing.assert_close(first, first.mT)
    torch.testing.assert_close(first @ first, first)
    assert float(first.trace()) == pytest.approx(3)


def test_a_fixed_basis_of_all_features_is_exact():
    matrix = normal(8, 6).float()
    reading = reading_of(RandBasis(rank=4, projections="fixed"))
    torch.testing.assert_close(reconstruction(reading, matrix), matrix)


def test_a_fixed_basis_comes_with_the_state_dict():
    recipe = RandBasis(rank=1, projections="fixed")
    reading, other = (recipe.reading(6, 4, 8, rng(seed)) for seed in (1, 2))
    other.load_state_dict(reading.state_dict())
    assert torch.equal(other.basis, reading.basis)


def test_fresh_projections_go_on_from_the_state_dict():
    reading, matrix = reading_of(RandBasis()), normal(8, 6)
    reconstruction(reading, matrix)
    other = reading_of(RandBasis())
    other.load_state_dict(reading.state_dict())
    left, right = (reconstruction(each, matrix) for each in (reading, other))
    assert torch.equal(left, right)
    assert not torch.equal(left, reconstruction(reading, matrix))


def test_the_oracle_loses_the_tail_and_no_more():
    matrix = normal(20, 12)
    values = torch.linalg.svdvals(matrix)
    for rank in (1, 3):
        lost = torch.linalg.norm(reconstruction(reading_of(SVDOracle(rank=rank)), matrix) - matrix)
        tail = torch.linalg.vector_norm(values[2 * rank + 1 :])
        assert float(lost) == pytest.approx(float(tail), rel=1e-10)


@pytest.mark.parametrize("shape", [(20, 12), (4, 12), (12, 4)])
def test_the_oracle_returns_a_matrix_of_no_greater_rank(shape):
    matrix = normal(shape[0], 3) @ normal(3, shape[1], seed=1)
    found = reconstruction(reading_of(SVDOracle(rank=2)), matrix)
    torch.testing.assert_close(found, matrix, rtol=1e-12, atol=1e-12)


def test_the_oracle_survives_what_has_diverged():
    matrix = torch.full((4, 6), torch.nan)
    reading = reading_of(SVDOracle())
    kept, note = reading.keep(matrix, None, update=True)
    assert reading.gradient(torch.ones(4, 2), kept, note).shape == (2, 6)


def test_dead_units_give_no_nan():
    for recipe in (RandBasis(), RandBasis(projections="fixed"), SVDOracle()):
        assert not reconstruction(reading_of(recipe), torch.zeros(8, 6)).any()


def test_another_seed_is_another_fixed_basis():
    reading = reading_of(RandBasis(rank=1, projections="fixed"))
    before, other = reading.basis, reading_of(RandBasis(rank=1, projections="fixed"))
    reading.redraw()
    assert not torch.allclose(reading.basis, before)
    other.load_state_dict(reading.state_dict())
    assert torch.equal(other.basis, reading.basis)


@pytest.mark.parametrize("width", [4, 64])
def test_a_fixed_basis_counts_in_the_break_even(width):
    recipe = RandBasis(rank=2, projections="fixed")
    reading, least = recipe.reading(width, 4, 8, rng()), recipe.break_even(width)
    if width < recipe.k:
        assert least is None
        return

    def saved(rows):
        kept, _ = reading.keep(torch.zeros(rows, width), None, update=True)
        return 4 * rows * width - sum(map(torch.Tensor.nelement, kept)) * 4 - rows * width / 8

    assert saved(least) > 0 >= saved(least - 1)
