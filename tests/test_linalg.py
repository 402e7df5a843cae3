import pytest
import torch
from torch import Generator

from sketchbench.linalg import TILE, RandomMatrix, symmetric_power

CPU = torch.device("cpu")


def normal(tile, generator):
    return tile.normal_(generator=generator)


@pytest.mark.parametrize("exponent", [-1.0, -0.25, 0.0, 0.5, 2.0])
def test_power_of_a_known_spectrum(exponent):
    rng = Generator().manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=rng))
    values = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.0, 0.0], dtype=torch.float64)
    actual = symmetric_power((basis * values) @ basis.mT, exponent, ridge=0.25)
    expected = (basis * (values + 0.25) ** exponent) @ basis.mT
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-13)


def test_eigenvalues_that_rounding_made_negative_count_as_zero():
    matrix = torch.diag(torch.tensor([1.0, -1e-9]))
    expected = torch.diag(torch.tensor([1.0, 0.0]))
    assert torch.equal(symmetric_power(matrix, 0.5), expected)


def test_tiles_are_keyed_by_seed_and_index_alone():
    """A longer matrix begins with the shorter one's whole tiles."""
    height = TILE // 32  # tiles of 32 columns
    short, long = (RandomMatrix((height, n), 5, normal, CPU) for n in (64, 100))
    x = torch.zeros(100)
    x[40] = 1
    assert torch.equal(short.apply(x[:64]), long.apply(x))


def test_neighbouring_seeds_share_no_column():
    """Columns of 256 normal entries: 6 standard errors are passed with probability 2e-9 each."""
    columns = []
    for seed in (5, 6, 2**40 + 5):
        matrix = RandomMatrix((256, 300), seed, normal, CPU).apply(torch.eye(300))
        columns.append(matrix / matrix.norm(dim=1, keepdim=True))
    together = torch.cat(columns)
    cosines = (together @ together.mT).fill_diagonal_(0)
    assert float(cosines.abs().max()) <= 6 / 256**0.5
