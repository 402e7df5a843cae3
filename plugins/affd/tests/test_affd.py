"""Literal AFFD against its dense definition, and its κ against the closed form."""

import pytest
import torch
from pydantic import ValidationError
from sketchbench_affd import AFFD
from torch import Generator

from sketchbench.linalg import hadamard

CPU = torch.device("cpu")


def built(size, seed=0, **fields):
    fields = {"out_size": 16, "factor_size": 16, **fields}
    return AFFD(**fields).build(size, Generator().manual_seed(seed), CPU)


def dense(sketch):
    """R_D √(M/D) H^π₂ G H^π₁ B (D, N), with whole Kronecker products."""
    out, size = sketch.shape
    first = second = torch.ones(1, 1, dtype=torch.float64)
    for rows, columns in zip(sketch._rows, sketch._columns, strict=True):
        h = hadamard(len(rows), torch.float64, CPU)
        first, second = torch.kron(first, h[rows]), torch.kron(second, h[:, columns])
    scale = (len(first) / out) ** 0.5
    whole = scale * second @ torch.diag(sketch._gaussians.double()) @ first
    return whole[:out, :size] * sketch._signs


@pytest.mark.parametrize("permuted", [True, False])
@pytest.mark.parametrize("size", [1, 5, 256, 300])
def test_apply_and_adjoint_are_products_with_the_matrix_of_equation_6(size, permuted):
    sketch = built(size, permuted=permuted)
    rng = Generator().manual_seed(1)
    x = torch.randn(2, size, generator=rng, dtype=torch.float64)
    y = torch.randn(2, 16, generator=rng, dtype=torch.float64)
    matrix = dense(sketch)
    torch.testing.assert_close(sketch.apply(x), x @ matrix.mT, rtol=0, atol=1e-12)
    torch.testing.assert_close(sketch.adjoint(y), y @ matrix, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("out_size", "places", "expected"),
    [
        (64, slice(0, 16), 3 - 2 / 16),  # flat along the last factor: permutations don't help
        (64, [0, 32], 1 + 3 / 15),  # apart along the first, of which groups hold 4 rows of 16
        (64, [0, 64], 1 + 3 / 15),
        (8, [0, 1], 1 + 7 / 15),  # D within the last factor
        (8, [0, 16], 1.0),
    ],
)
def test_kappa_is_the_closed_form(out_size, places, expected):
    """Means over draws of the exact conditional κ, to four standard errors."""
    x = torch.zeros(256, dtype=torch.float64)
    x[places] = 1
    x /= x.norm()
    found = torch.tensor(
        [built(256, seed, out_size=out_size).conditional_kappa(x) for seed in range(200)]
    )
    error = float(found.std()) / len(found) ** 0.5
    assert abs(float(found.mean()) - expected) <= 4 * error + 1e-6
    assert expected <= AFFD(out_size=out_size, factor_size=16).guarantee(256).kappa


@pytest.mark.parametrize(
    ("fields", "kappa"),
    [
        ({"out_size": 64}, 3.0),
        ({"out_size": 8}, 1 + 2 * 7 / 15),
        ({"out_size": 8, "permuted": False}, 3.0),
        ({"out_size": 1}, 1.0),
    ],
)
def test_the_declared_kappa_by_axes(fields, kappa):
    declared = AFFD(factor_size=16, **fields).guarantee(256).kappa
    assert declared == pytest.approx(1 + (kappa - 1) * (1 - 1 / 256))


@pytest.mark.parametrize("field", ["out_size", "factor_size"])
def test_sizes_that_are_no_power_of_two_are_refused(field):
    with pytest.raises(ValidationError, match=f"{field} 100 is no power of two; take 64 or 128"):
        AFFD(**{field: 100})
