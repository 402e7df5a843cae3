"""The exact covariance is exact."""

import pytest
import torch
from sketchbench_dense import ExactCovariance
from torch import Generator

CPU = torch.device("cpu")
EPS = torch.finfo(torch.float32).eps


def test_pieces_of_a_stream_add_up_to_its_gram_matrix():
    rows = torch.randn(50, 8, generator=Generator().manual_seed(0))
    estimate = ExactCovariance().build(8, CPU)
    for piece in rows.split(7):
        estimate.update(piece)
    exact = rows.double().mT @ rows.double()
    # 50 products and sums of rounding error eps/2 each, at most
    bound = 50 * EPS * (rows.double().abs().mT @ rows.double().abs())
    assert ((estimate.dense().double() - exact).abs() <= bound).all()


def test_the_power_of_a_diagonal_is_the_power_of_its_entries():
    values = torch.tensor([4.0, 1.0, 0.25])
    estimate = ExactCovariance().build(3, CPU)
    estimate.update(values.sqrt().diag())
    x = torch.eye(3)
    for exponent, ridge in ((-0.5, 0.0), (-0.25, 1.0), (1.0, 0.5), (0.0, 0.0)):
        expected = ((values + ridge) ** exponent).diag()
        actual = estimate.power(x, exponent, ridge)
        torch.testing.assert_close(actual, expected, rtol=20 * EPS, atol=20 * EPS)


def test_dense_is_a_copy():
    estimate = ExactCovariance().build(2, CPU)
    estimate.dense().fill_(1)
    assert not estimate.dense().any()


def test_float64_rows_make_a_float64_covariance():
    rows = torch.randn(5, 3, generator=Generator().manual_seed(0), dtype=torch.float64)
    estimate = ExactCovariance().build(3, CPU)
    estimate.update(rows)
    torch.testing.assert_close(estimate.dense(), rows.mT @ rows, rtol=1e-14, atol=1e-14)
    assert estimate.tail.dtype == torch.float64
    assert estimate.power(torch.eye(3), -0.5, 1.0).dtype == torch.float32


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_rows_that_have_no_square_are_refused(value):
    estimate = ExactCovariance().build(3, CPU)
    with pytest.raises(ValueError, match="exact-covariance: rows aren't finite, or their squares"):
        estimate.update(torch.full((1, 3), value))
    assert not estimate.dense().any()
