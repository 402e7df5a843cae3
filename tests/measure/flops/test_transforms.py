import functools
import math

import pytest
import torch

from sketchbench.measure.flop_formulas import hadamard_flops, kronecker_flops


@pytest.mark.parametrize("points", [1, 2, 8, 32])
def test_a_fourier_transform_counts_exactly_what_radix_2_does(count, rand, naive, points):
    x = rand(points, dtype=torch.complex128)
    pairs = [(naive.Number(z.real), naive.Number(z.imag)) for z in x.tolist()]
    found, took = naive.done(naive.transform, pairs)
    expected = torch.fft.fft(x)
    assert torch.allclose(
        torch.tensor([complex(a.value, b.value) for a, b in found]).to(torch.complex128), expected
    )
    assert count(lambda: torch.fft.fft(x)).total == sum(took)
    assert count(lambda: torch.fft.ifft(x)).total == sum(took)
    assert count(lambda: torch.fft.rfft(x.real)).total == sum(took) // 2
    assert count(lambda: torch.fft.irfft(x, n=points)).total == sum(took) // 2


def test_transforms_over_more_dimensions_and_batches_add_up(count, rand):
    x = rand(3, 8, 16, dtype=torch.complex64)
    row, column = 5 * 16 * 4, 5 * 8 * 3
    both = 3 * (8 * row + 16 * column)
    assert count(lambda: torch.fft.fft2(x)).total == both == 3 * 5 * 128 * 7
    assert count(lambda: torch.fft.rfft2(x.real)).total == both // 2
    assert count(lambda: torch.fft.irfft2(x, s=(8, 16))).total == both // 2
    assert count(lambda: torch.fft.fft(x, dim=1)).total == 3 * 16 * column


def test_other_sizes_follow_the_same_convention(count, rand):
    assert count(lambda: torch.fft.fft(rand(12).cfloat())).total == round(60 * math.log2(12))


@pytest.mark.parametrize("size", [1, 2, 16, 64])
def test_a_hadamard_transform_counts_exactly_what_its_butterflies_do(rand, naive, size):
    x = rand(size)
    _, took = naive.done(naive.walsh, naive.numbers(x))
    assert took == (0, hadamard_flops(size))


@pytest.mark.parametrize("size", [0, -4, 12])
def test_a_hadamard_transform_needs_a_power_of_two(size):
    with pytest.raises(ValueError, match=f"hadamard_flops: {size} is no power of two"):
        hadamard_flops(size)


@pytest.mark.parametrize("shapes", [[(3, 4)], [(3, 4), (5, 2)], [(2, 2), (4, 3), (1, 5)]])
def test_a_kronecker_product_counts_as_its_modes_one_after_another(count, rand, shapes):
    columns = 6
    factors = [rand(*shape) for shape in shapes]
    x = rand(*(inner for _, inner in shapes), columns)

    def modes():
        y = x
        for mode, factor in enumerate(factors):
            y = torch.tensordot(factor, y, ([1], [mode])).movedim(0, mode)
        return y

    dense = functools.reduce(torch.kron, factors) @ x.reshape(-1, columns)
    assert torch.allclose(modes().reshape(-1, columns), dense)
    assert count(modes).total == kronecker_flops(shapes, columns)
