import pytest
import torch
from torch import Generator

from sketchbench.linalg import symmetric_power


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
