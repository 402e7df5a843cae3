"""Quantised rows: error bounds, unbiased rounding, and the bytes that were promised."""

import pytest
import torch
from sketchbench_tri_sketch import Quantise
from sketchbench_tri_sketch.probe import reconstruction
from sketchbench_tri_sketch.quantise import packed, unpacked
from torch import Generator

BITS = [2, 4, 8]
DRAWS = 300


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def reading_of(**fields):
    return Quantise(**fields).reading(20, 4, 8, Generator().manual_seed(5))


def steps(matrix, bits):
    return (matrix.amax(1, keepdim=True) - matrix.amin(1, keepdim=True)) / (2**bits - 1)


@pytest.mark.parametrize("bits", BITS)
def test_nearest_is_off_by_half_a_step_at_most(bits):
    matrix = normal(8, 20)
    off = (reconstruction(reading_of(bits=bits, rounding="nearest"), matrix) - matrix).abs()
    assert (off <= steps(matrix, bits) * 0.5000001).all()


@pytest.mark.parametrize("bits", BITS)
def test_stochastic_is_off_by_a_step_at_most_and_unbiased(bits):
    matrix = normal(8, 20)
    sample = reconstruction(reading_of(bits=bits), matrix.repeat(DRAWS, 1)).view(DRAWS, 8, 20)
    assert ((sample - matrix).abs() <= steps(matrix, bits) * 1.0000001).all()
    off = (sample.mean(0) - matrix).abs()  # 5 standard errors, each of half a step at most
    assert (off <= 5 * steps(matrix, bits) / 2 / DRAWS**0.5).all()


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("width", [1, 3, 8, 21])
def test_codes_come_back_from_their_bytes(bits, width):
    codes = torch.randint(2**bits, (5, width), generator=Generator().manual_seed(1))
    codes = codes.to(torch.uint8)
    found = packed(codes, bits)
    assert found.shape == (5, -(-width * bits // 8))
    assert torch.equal(unpacked(found, bits, width), codes)


@pytest.mark.parametrize("bits", BITS)
def test_extremes_of_a_row_and_constant_rows_are_exact(bits):
    matrix = torch.tensor([[0.0, 1.0, 0.0, 1.0], [3.0, 3.0, 3.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    found = reconstruction(reading_of(bits=bits, rounding="nearest"), matrix)
    torch.testing.assert_close(found, matrix)
    assert found.isfinite().all()


@pytest.mark.parametrize("bits", BITS)
def test_it_keeps_codes_and_a_range_a_row(bits):
    kept, _ = reading_of(bits=bits).keep(normal(8, 21).float(), None, update=True)
    assert sum(each.nbytes for each in kept) == 8 * (-(-21 * bits // 8) + 8)


def test_a_recomputation_rounds_as_before():
    reading, matrix = reading_of(bits=2), normal(8, 20)
    first, again, other = (reading.keep(matrix, None, update)[0] for update in (True, False, True))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
