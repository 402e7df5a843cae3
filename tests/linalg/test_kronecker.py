from functools import reduce

import pytest
import torch
from torch import Generator

from sketchbench.linalg import Workspace, apply_kronecker

SHAPES = [[(3, 5)], [(4, 2), (3, 6)], [(5, 3), (1, 4), (6, 2)], [(2, 7), (7, 2), (3, 3), (2, 1)]]


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=Generator().manual_seed(seed))


def factors_of(shapes):
    return [normal(*shape, seed=index) for index, shape in enumerate(shapes)]


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("space", [None, Workspace()])
def test_rectangular_factors_against_the_dense_product(shapes, space):
    factors = factors_of(shapes)
    dense = reduce(torch.kron, factors)
    x, y = normal(2, 3, dense.shape[1]), normal(2, 3, dense.shape[0], seed=9)
    before = x.clone()
    actual = apply_kronecker(x, factors, space)
    torch.testing.assert_close(actual, x @ dense.mT, rtol=1e-13, atol=1e-13)
    adjoint = apply_kronecker(y, [factor.mT for factor in factors], space)
    torch.testing.assert_close(adjoint, y @ dense, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close((actual * y).sum(), (x * adjoint).sum(), rtol=1e-12, atol=1e-12)
    assert torch.equal(x, before)


def test_a_result_outlives_the_next_use_of_its_workspace():
    space, factors = Workspace(), factors_of(SHAPES[2])
    first = apply_kronecker(normal(4, 24), factors, space)
    kept = first.clone()
    apply_kronecker(normal(4, 24, seed=1), factors, space)
    assert torch.equal(first, kept)


def test_layouts_and_empty_batches():
    factors, x = factors_of(SHAPES[1]), normal(12, 5)
    expected = apply_kronecker(x.mT.contiguous(), factors)
    assert torch.equal(apply_kronecker(x.mT, factors), expected)
    assert apply_kronecker(normal(0, 12), factors).shape == (0, 12)


def test_can_be_differentiated_and_mapped_over():
    factors, space = factors_of(SHAPES[1]), Workspace()
    x, w = normal(3, 12).requires_grad_(), normal(3, 12, seed=1)
    (apply_kronecker(x, factors, space) * w).sum().backward()
    torch.testing.assert_close(x.grad, apply_kronecker(w, [factor.mT for factor in factors]))
    mapped = torch.func.vmap(lambda row: apply_kronecker(row, factors, space))(w)
    torch.testing.assert_close(mapped, apply_kronecker(w, factors))


@pytest.mark.parametrize("shape", [(2, 13), (), (12, 2)])
def test_bad_input_is_named(shape):
    with pytest.raises(ValueError, match="kronecker: factors have 12 columns in all; x is of"):
        apply_kronecker(torch.ones(shape, dtype=torch.float64), factors_of(SHAPES[1]))
