"""The fast Johnson–Lindenstrauss transform against its definition in dense matrices."""

import math

import pytest
import torch
from sketchbench_dense import FJL
from torch import Generator

from sketchbench.linalg import hadamard

CPU = torch.device("cpu")


def built(recipe, size, seed=0):
    return recipe.build(size, Generator().manual_seed(seed), CPU)


@pytest.mark.parametrize(("size", "order"), [(1, 1), (13, 16), (16, 16)])
def test_it_is_its_definition(size, order):
    """√(M/(D·r)) G H B, G a dense matrix with each Gaussian added at its place."""
    s = built(FJL(out_size=10, row_nonzeros=3), size)
    sparse = torch.zeros(10, order, dtype=torch.float64)
    for row, (places, gauss) in enumerate(zip(s._places, s._gauss, strict=True)):
        for place, g in zip(places, gauss, strict=True):
            sparse[row, place] += g
    signs = s._signs.double().diag()
    expected = (order / 30) ** 0.5 * sparse @ hadamard(order, torch.float64, CPU)[:, :size] @ signs
    dense = s.apply(torch.eye(size, dtype=torch.float64)).mT
    torch.testing.assert_close(dense, expected, rtol=0, atol=1e-13)
    transposed = s.adjoint(torch.eye(10, dtype=torch.float64))
    torch.testing.assert_close(transposed, expected, rtol=0, atol=1e-13)


def test_products_come_in_chunks_of_rows(monkeypatch):
    x = torch.randn(3, 20, generator=Generator().manual_seed(1), dtype=torch.float64)
    s = built(FJL(out_size=9), 20)
    whole, back = s.apply(x), s.adjoint(s.apply(x))
    monkeypatch.setattr("sketchbench_dense.johnson_lindenstrauss.CHUNK", 100)
    assert torch.equal(s.apply(x), whole)
    torch.testing.assert_close(s.adjoint(whole), back, rtol=0, atol=1e-13)


def test_its_density_is_the_square_of_the_logarithm():
    for size, order in ((1, 1), (100, 128), (2**14, 2**14)):
        places = built(FJL(out_size=5), size)._places
        assert places.shape == (5, max(1, math.ceil(math.log(order) ** 2)))
        assert int(places.max()) < order


@pytest.mark.parametrize("row_nonzeros", [1, 4])
def test_its_kappa_is_that_of_sampled_energies(row_nonzeros):
    """D·Var‖Φx‖²/2 = 1 + 3(1 − ‖x‖₄⁴)/r, half the variance of a row's square, for flat x.

    Rows are independent given the signs: 400 draws of 200, each draw's mean to six standard errors.
    """
    draws, out_size = 400, 200
    x = torch.full((8,), 8**-0.5, dtype=torch.float64)
    recipe = FJL(out_size=out_size, row_nonzeros=row_nonzeros)
    rows = torch.stack([built(recipe, 8, seed).apply(x) for seed in range(draws)])
    spreads = ((out_size * rows.square() - 1).square() / 2).mean(1)
    expected = 1 + 3 * (1 - 1 / 8) / row_nonzeros
    assert expected == pytest.approx(recipe.guarantee(8).kappa)
    assert abs(float(spreads.mean()) - expected) <= 6 * float(spreads.std()) / draws**0.5


def test_vectors_of_another_length_are_refused():
    s = built(FJL(out_size=8), 20)
    with pytest.raises(ValueError, match="fjl: expected vectors of 20 entries; got 1"):
        s.apply(torch.ones(1))
    with pytest.raises(ValueError, match="fjl: expected vectors of 8 entries; got 1"):
        s.adjoint(torch.ones(1))
