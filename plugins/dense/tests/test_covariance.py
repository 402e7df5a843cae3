"""The exact covariance is exact."""

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
