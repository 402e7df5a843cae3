"""QK and its listing against dense Kronecker products, and κ against the closed form."""

import math

import pytest
import torch
from pydantic import ValidationError
from sketchbench_qk import QK, QKListing2
from sketchbench_qk.shapes import second_moment, shapes, variance
from torch import Generator

from sketchbench.linalg import adversarial

CPU = torch.device("cpu")


def built(recipe, size, seed=0):
    return recipe.build(size, Generator().manual_seed(seed), CPU)


@pytest.mark.parametrize(
    "recipe",
    [
        QK(out_size=16),
        QK(out_size=30, factors=3),
        QK(out_size=7, factors=1),
        QKListing2(out_size=16, factor_size=8),
        QKListing2(out_size=2, factor_size=8),
    ],
)
@pytest.mark.parametrize("size", [1, 5, 250, 300])
def test_apply_and_adjoint_are_products_with_the_first_rows_of_a_kronecker_product(recipe, size):
    sketch, out = built(recipe, size), recipe.out_size
    whole = torch.ones(1, 1, dtype=torch.float64)
    for factor in sketch._factors:
        whole = torch.kron(whole, factor.double())
    matrix = (whole.shape[1] / out) ** 0.5 * whole[:out, :size]
    rng = Generator().manual_seed(1)
    x = torch.randn(2, size, generator=rng, dtype=torch.float64)
    y = torch.randn(2, out, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(sketch.apply(x), x @ matrix.mT, rtol=0, atol=1e-12)
    torch.testing.assert_close(sketch.adjoint(y), y @ matrix, rtol=0, atol=1e-12)


@pytest.mark.parametrize("recipe", [QK(out_size=64), QKListing2(out_size=64, factor_size=16)])
def test_rows_of_each_factor_are_orthonormal(recipe):
    for factor in built(recipe, 4000)._factors:
        eye = torch.eye(len(factor))
        torch.testing.assert_close(factor @ factor.mT, eye, rtol=0, atol=1e-6)


def test_shapes_of_real_models_are_exact_products():
    """124,439,808 parameters of GPT-2: nothing is padded."""
    rows, columns = shapes(124_439_808, 4096, 3)
    assert math.prod(columns) == 124_439_808
    assert sorted(rows) == [16, 16, 16]


@pytest.mark.parametrize(("size", "out_size", "count"), [(7, 256, 2), (1, 64, 3), (1000, 17, 2)])
def test_factors_have_as_many_columns_as_rows(size, out_size, count):
    rows, columns = shapes(size, out_size, count)
    assert math.prod(rows) == out_size
    assert math.prod(columns) >= size
    assert all(d <= b for d, b in zip(rows, columns, strict=True))


def test_effective_dimensions_are_those_of_the_formula():
    """(16, 16), (8, 8, 8) and (4, 4, 4) rows of large factors: 2/Var."""
    effective = [2 / variance(r, (10**6,) * len(r)) for r in ((16, 16), (8, 8, 8), (4, 4, 4))]
    assert effective == pytest.approx([7.53, 2.10, 0.84], abs=0.01)


def test_an_isometry_has_no_variance():
    assert QK(out_size=36).guarantee(36).kappa <= 1e-6
    assert second_moment(6, 6) == 1.0


@pytest.mark.parametrize("factors", [2, 3])
def test_kappa_of_an_axis_is_the_declared_one(factors):
    """To five standard errors over 2000 draws; that of a dense input is far below it."""
    size, recipe = 4096, QK(out_size=64, factors=factors)
    inputs = torch.stack([adversarial(size, 64)[name] for name in ("axis", "gaussian")]).float()
    norms = torch.stack([built(recipe, size, s).apply(inputs).square().sum(1) for s in range(2000)])
    spreads = 64 * (norms.double() - 1).square() / 2
    error = spreads.std(0) / len(spreads) ** 0.5
    declared = recipe.guarantee(size).kappa
    assert abs(float(spreads[:, 0].mean()) - declared) <= 5 * float(error[0])
    assert float(spreads[:, 1].mean()) < declared / 3


def test_the_listing_names_what_is_coherent():
    """128 × 128, D = 128: one row of the leading factor."""
    declared = QKListing2(out_size=128).guarantee(2**14)
    names = set(adversarial(2**14, 128))
    assert set(declared.breaks) == names - {"gaussian", "layer"}
    assert not declared.valid
    assert declared.kappa < QK(out_size=128).guarantee(2**14).kappa


def test_the_listing_is_what_its_held_rows_are_of_whole_factors():
    """The first D rows of a product need one row of the leading factor, and all of the last."""
    sketch = built(QKListing2(out_size=16, factor_size=16), 4096)
    assert [tuple(q.shape) for q in sketch._factors] == [(1, 16), (1, 16), (16, 16)]


def test_a_factor_size_that_is_no_power_of_two_is_refused():
    with pytest.raises(ValidationError, match="factor_size 100 is no power of two; take 64 or 128"):
        QKListing2(factor_size=100)
    with pytest.raises(ValidationError, match="out_size 17 is no power of two; take 16 or 32"):
        QKListing2(out_size=17)
