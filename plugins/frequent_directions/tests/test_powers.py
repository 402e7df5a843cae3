"""Powers of a sketch against those of its dense form, in float64."""

import pytest
import torch
from sketchbench_frequent_directions.powers import power
from sketchbench_frequent_directions.sketch import Sketch, absorb, empty
from sketchbench_frequent_directions.solvers.svd import svd
from torch import Generator, Tensor

SIZE, RANK = 12, 5
EXPONENTS = (-1.0, -0.5, -0.25, -1 / 6, 0.5, 1.0, 2.0)


@pytest.mark.parametrize("exponent", EXPONENTS)
@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_a_power_is_that_of_the_dense_matrix(exponent, ridge):
    sketch, x = _sketch(40), _normal(SIZE, 3)
    expected = _dense_power(sketch, exponent, ridge) @ x
    torch.testing.assert_close(power(sketch, x, exponent, ridge), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("exponent", [-1.0, -0.25, 1.0])
def test_without_a_tail_the_power_is_the_pseudo_inverses(exponent):
    sketch, x = _sketch(3), _normal(SIZE, 2)  # three rows fit
    assert sketch.tail == 0
    values, vectors = torch.linalg.eigh((sketch.vectors * sketch.roots**2) @ sketch.vectors.mT)
    powers = torch.where(values > 1e-12 * values[-1], values.abs() ** exponent, 0)
    expected = vectors * powers @ vectors.mT @ x
    torch.testing.assert_close(power(sketch, x, exponent), expected, rtol=1e-9, atol=1e-11)


def test_every_sketch_of_a_batch_has_its_own_ridge():
    stacks, x = _normal(2, 3, SIZE, 40), _normal(2, 3, SIZE, 4)
    sketches = empty(SIZE, RANK, (2, 3), dtype=torch.float64)
    sketches = absorb(sketches, stacks, beta2=1.0, tail_decay=1.0, solver=svd)
    ridges = torch.rand(2, 3, generator=Generator().manual_seed(2), dtype=torch.float64)
    powers = power(sketches, x, -0.25, ridges)
    for row, column in torch.cartesian_prod(torch.arange(2), torch.arange(3)):
        alone = Sketch(*(part[row, column] for part in sketches))
        expected = power(alone, x[row, column], -0.25, float(ridges[row, column]))
        torch.testing.assert_close(powers[row, column], expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_power_has_the_type_of_what_it_is_applied_to(dtype):
    sketch, x = Sketch(*(part.float() for part in _sketch(40))), _normal(SIZE, 2).to(dtype)
    applied = power(sketch, x, -0.5, 1e-3)
    assert applied.dtype == dtype
    expected = _dense_power(_sketch(40), -0.5, 1e-3) @ x.double()
    rounding = max(float(torch.finfo(dtype).eps), 1e-6) * 4
    assert (applied.double() - expected).norm() <= rounding * expected.norm()


@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_roots_of_very_small_and_large_sketches_are_finite(scale):
    sketch = empty(SIZE, RANK)
    rows = (_normal(SIZE, 40) * scale).float()
    sketch = absorb(sketch, rows, beta2=1.0, tail_decay=1.0, solver=svd)
    applied = power(sketch, rows[:, :2], -0.5)
    expected = _dense_power(_sketch(40, _normal(SIZE, 40)), -0.5, 0.0) @ _normal(SIZE, 40)[:, :2]
    torch.testing.assert_close(applied.double(), expected, rtol=1e-4, atol=1e-5)


def _sketch(columns: int, increment: Tensor | None = None) -> Sketch:
    increment = _normal(SIZE, columns) if increment is None else increment
    sketch = empty(SIZE, RANK, dtype=torch.float64)
    return absorb(sketch, increment, beta2=1.0, tail_decay=1.0, solver=svd)


def _dense_power(sketch: Sketch, exponent: float, ridge: float) -> Tensor:
    held = (sketch.vectors * sketch.roots**2) @ sketch.vectors.mT
    held += (sketch.tail + ridge) * torch.eye(SIZE, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(held)
    return vectors * values**exponent @ vectors.mT


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(1), dtype=torch.float64)
