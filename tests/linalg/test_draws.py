import itertools

import numpy as np
import pytest
import torch
from torch import Generator

from sketchbench.linalg import normals, orthogonal, permutation, seed_of, signs, stream


def test_streams_of_neighbouring_seeds_methods_and_blocks_share_nothing():
    """Sums such as seed + 1000·block made blocks of two sketches equal in other libraries."""
    seeds = (0, 1, 2, 100, 1000, 1001, 100_000, 2**40, 2**62 + 1)
    blocks = (0, 1, 2, 100, 1000)
    seen = set()
    for seed, method, block in itertools.product(seeds, ("affd", "affd1", "srht"), blocks):
        words = stream(seed, method, block).integers(0, 2**64, 4, dtype=np.uint64)
        seen.update(words.tolist())
    assert len(seen) == len(seeds) * 3 * len(blocks) * 4


def test_parts_of_the_key_do_not_run_into_one_another():
    pairs = [((1, "a", 23), (1, "a/2", 3)), ((12, "a", 0), (1, "2/a", 0))]
    for first, second in pairs:
        a, b = (stream(*each).bytes(16) for each in (first, second))
        assert a != b


def test_one_key_is_one_stream():
    a, b = (normals(stream(7, "x", 3), 50) for _ in range(2))
    assert torch.equal(a, b)


def test_seeds_differ_from_draw_to_draw_and_repeat_with_their_generator():
    rng, again = Generator().manual_seed(3), Generator().manual_seed(3)
    drawn = [seed_of(rng) for _ in range(5)]
    assert len(set(drawn)) == 5
    assert [seed_of(again) for _ in range(5)] == drawn
    assert all(0 <= seed < 2**63 for seed in drawn)


def test_signs_are_fair_and_int8():
    """Of 2^16, and of products of neighbours; 6 standard errors."""
    drawn = signs(stream(0, "signs"), 2**16)
    assert drawn.dtype == torch.int8
    assert set(drawn.tolist()) == {-1, 1}
    wide = drawn.float()
    for each in (wide, wide[1:] * wide[:-1], wide[8:] * wide[:-8]):
        assert abs(float(each.mean())) <= 6 / 2**8
    assert signs(stream(0, "signs"), 13).shape == (13,)


def test_normals_have_the_moments_of_normals():
    """Mean, variance and kurtosis of 2^16; 6 standard errors: 1, √2 and √96 over 2^8."""
    drawn = normals(stream(0, "normals"), 256, 256).double()
    for power, expected, deviation in ((1, 0, 1), (2, 1, 2**0.5), (4, 3, 96**0.5)):
        assert abs(float((drawn**power).mean()) - expected) <= 6 * deviation / 2**8


def test_permutation_has_every_number_once():
    drawn = permutation(stream(0, "permutation"), 1000)
    assert torch.equal(drawn.sort().values, torch.arange(1000))
    assert not torch.equal(drawn, torch.arange(1000))


@pytest.mark.parametrize(("size", "rows"), [(8, None), (8, 3), (1, None), (60, 60)])
def test_rows_of_an_orthogonal_matrix_are_orthonormal(size, rows):
    q = orthogonal(stream(0, "haar"), size, rows)
    assert q.shape == (rows or size, size)
    eye = torch.eye(len(q), dtype=torch.float64)
    torch.testing.assert_close(q @ q.mT, eye, rtol=0, atol=1e-14)


def test_orthogonal_matrices_are_haar_and_not_merely_orthogonal():
    """Entries of a Haar matrix have mean 0, variance 1/n, and a determinant of either sign.

    The Q of Householder's factorization alone has negative diagonal entries on average. 6 standard
    errors of 600 draws.
    """
    rng, draws = stream(0, "haar"), 600
    drawn = torch.stack([orthogonal(rng, 3) for _ in range(draws)])
    assert float(drawn.mean(0).abs().max()) <= 6 * (1 / 3 / draws) ** 0.5
    assert abs(float(torch.linalg.det(drawn).mean())) <= 6 / draws**0.5
    fourth = 3 / (3 * 5)  # E q⁴ = 3 / (n (n + 2))
    assert float((drawn**4).mean(0).sub(fourth).abs().max()) <= 6 * 0.27 / draws**0.5


def test_global_generators_are_untouched():
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    rng = stream(1, "x")
    signs(rng, 100), normals(rng, 100), permutation(rng, 100), orthogonal(rng, 5)
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()
