import pytest
import torch
from sketchbench_tri_sketch.three_sketch import ThreeSketch

LIKE = torch.zeros((), dtype=torch.float64)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def sketched(matrix, size, seed=0):
    sketch = ThreeSketch(*matrix.shape, size, rng(seed), LIKE)
    for row in matrix:
        sketch.keep(row)
    return torch.stack(list(sketch.backwards())).flip(0)


def spectrum(values, rows=60, columns=40):
    draw = torch.randn(2, rows, columns, generator=rng(9), dtype=torch.float64)
    left, right = torch.linalg.qr(draw[0])[0], torch.linalg.qr(draw[1][:columns])[0]
    return left * torch.as_tensor(values, dtype=torch.float64) @ right.mT


@pytest.mark.parametrize("rank", [1, 4])
def test_a_matrix_of_low_rank_comes_back(rank):
    matrix = spectrum([1.0] * rank + [0.0] * (40 - rank))
    torch.testing.assert_close(sketched(matrix, 2 * rank + 1), matrix, rtol=0, atol=1e-11)


def test_the_error_is_within_the_bound_as_a_root_mean_square():
    rank, values = 2, [1 / i for i in range(1, 41)]
    matrix, tail = spectrum(values), sum(v**2 for v in values[rank:])
    errors = [(sketched(matrix, 2 * rank + 1, seed) - matrix).square().sum() for seed in range(100)]
    assert torch.stack(errors).mean() <= 6 * tail  # [Tropp et al. 2019, thm 5.1]


def test_it_keeps_as_many_numbers_as_it_says():
    size = 5
    assert ThreeSketch(60, 40, size, rng(), LIKE).numbers() == size * (60 + 40) + 11**2


def test_a_matrix_of_zeros_comes_back_without_nan():
    zeros = torch.zeros(12, 9, dtype=torch.float64)
    assert torch.equal(sketched(zeros, 3), zeros)


def test_another_seed_draws_other_projections():
    matrix = spectrum([1 / i for i in range(1, 41)])
    assert torch.equal(sketched(matrix, 3, 1), sketched(matrix, 3, 1))
    assert not torch.equal(sketched(matrix, 3, 1), sketched(matrix, 3, 2))
