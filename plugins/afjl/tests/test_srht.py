"""SRHT against its dense definition, and its κ against the closed form."""

import pytest
import torch
from sketchbench_afjl import SRHT
from torch import Generator

from sketchbench.linalg import adversarial, hadamard

CPU = torch.device("cpu")


def built(size, out_size=16, seed=0):
    return SRHT(out_size=out_size).build(size, Generator().manual_seed(seed), CPU)


@pytest.mark.parametrize(("size", "out_size"), [(1, 1), (5, 16), (300, 16), (300, 37)])
def test_apply_and_adjoint_are_products_with_the_matrix_of_the_definition(size, out_size):
    sketch = built(size, out_size)
    rng = Generator().manual_seed(1)
    x = torch.randn(2, size, generator=rng, dtype=torch.float64)
    y = torch.randn(2, out_size, generator=rng, dtype=torch.float64)
    whole = hadamard(sketch._order, torch.float64, CPU)
    scale = (sketch._order / out_size) ** 0.5
    matrix = scale * whole[sketch._rows][:, :size] * sketch._signs
    torch.testing.assert_close(sketch.apply(x), x @ matrix.mT, rtol=0, atol=1e-12)
    torch.testing.assert_close(sketch.adjoint(y), y @ matrix, rtol=0, atol=1e-12)


def test_it_is_an_isometry_where_all_rows_are_kept():
    eye = torch.eye(60, dtype=torch.float64)
    images = built(60, 64).apply(eye)
    torch.testing.assert_close(images @ images.mT, eye, rtol=0, atol=1e-12)


def test_rows_are_drawn_once_each():
    rows = built(500, 200)._rows
    assert len(rows.unique()) == 200
    assert int(rows.max()) < 512


@pytest.mark.parametrize("name", ["half-pair", "column"])
def test_kappa_is_the_closed_form(name):
    """(M − D)/(M − 1) · (1 − Σ x_i⁴), to five standard errors over 2000 draws."""
    size, out = 128, 16
    x = adversarial(size, out)[name]
    expected = (128 - out) / 127 * (1 - float(x.pow(4).sum()))
    norms = torch.stack([built(size, out, seed).apply(x).square().sum() for seed in range(2000)])
    spreads = out * (norms - 1).square() / 2
    error = float(spreads.std()) / len(spreads) ** 0.5
    assert abs(float(spreads.mean()) - expected) <= 5 * error
    assert expected <= SRHT(out_size=out).guarantee(size).kappa + 1e-12


def test_the_declared_kappa_is_that_of_a_flat_vector():
    assert SRHT(out_size=16).guarantee(128).kappa == pytest.approx(112 / 127 * (1 - 1 / 128))
    assert SRHT(out_size=128).guarantee(128).kappa <= 1e-6
