"""Projections drawn from seeds: what a seed and a number of rows mean."""

import pytest
import torch
from sketchbench_tri_sketch.projections import TILE, drawn, mixed, seed_from
from torch import Generator

LIKE = torch.empty(0)


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
@pytest.mark.parametrize("rows", [1, 5, TILE, TILE + 3])
def test_fewer_rows_are_the_first_rows_of_more(distribution, rows):
    more = drawn(3, 2 * TILE + 1, 5, LIKE, distribution)
    assert torch.equal(drawn(3, rows, 5, LIKE, distribution), more[:rows])


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
def test_entries_have_mean_zero_and_variance_one(distribution):
    """Within five standard errors of 50,000 entries, and no two columns alike."""
    matrix = drawn(3, 10_000, 5, LIKE.double(), distribution)
    assert abs(matrix.mean()) <= 5 / 50_000**0.5
    assert abs(matrix.square().mean() - 1) <= 5 * (2 / 50_000) ** 0.5
    assert (matrix.T @ matrix / 10_000 - torch.eye(5)).abs().max() <= 5 * (2 / 10_000) ** 0.5


def test_a_seed_is_one_matrix_in_every_type():
    double = drawn(3, 9, 5, LIKE.double())
    assert double.dtype == torch.float64
    assert torch.equal(double.float(), drawn(3, 9, 5, LIKE))


def test_steps_have_seeds_of_their_own_below_two_to_the_32():
    seeds = {mixed(2**32 - 5, step) for step in range(1000)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    drawn(seed_from(Generator().manual_seed(0)), 9, 5, LIKE)
    assert torch.equal(torch.get_rng_state(), before)
