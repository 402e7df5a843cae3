"""Dense projections: one matrix a seed, never held."""

import math

import pytest
import torch
from sketchbench_dense import Gaussian, Rademacher
from torch import Generator
from torch.utils._python_dispatch import TorchDispatchMode

CPU = torch.device("cpu")
SKETCHES = [Gaussian, Rademacher]


class Largest(TorchDispatchMode):
    """Notes the most entries of any storage that an operation returns."""

    def __init__(self):
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.entries = max(self.entries, out.untyped_storage().nbytes() // out.itemsize)
        return out


def built(recipe, size, seed=0):
    return recipe.build(size, Generator().manual_seed(seed), CPU)


@pytest.mark.parametrize("sketch", SKETCHES)
def test_no_tensor_is_larger_than_a_chunk_or_a_vector(sketch):
    """N·D = 6.4 million entries; a vector has 50 000, a chunk 2¹⁶."""
    size, chunk = 50_000, 2**16
    with Largest() as largest:
        s = built(sketch(out_size=128, chunk=chunk), size)
        assert largest.entries <= 1
        s.adjoint(s.apply(torch.ones(size)))
    assert largest.entries <= chunk


@pytest.mark.parametrize("sketch", SKETCHES)
@pytest.mark.parametrize("out_size", [3, 1000, 20_000])
def test_the_chunk_changes_no_entry(sketch, out_size):
    """Columns of S, one by one: Se_i has no sum, so that it's equal to the bit."""
    eye = torch.eye(100)[::25]
    small, large = (built(sketch(out_size=out_size, chunk=c), 100) for c in (1, 2**23))
    assert torch.equal(small.apply(eye), large.apply(eye))


@pytest.mark.parametrize("sketch", SKETCHES)
def test_apply_and_adjoint_are_products_with_one_matrix(sketch):
    s = built(sketch(out_size=40, chunk=10_000), 1000)
    dense = s.apply(torch.eye(1000)).mT
    rng = Generator().manual_seed(1)
    x, y = torch.randn(3, 1000, generator=rng), torch.randn(3, 40, generator=rng)
    torch.testing.assert_close(s.apply(x), x @ dense.mT, rtol=0, atol=1e-4)
    torch.testing.assert_close(s.adjoint(y), y @ dense, rtol=0, atol=1e-4)


def test_gaussian_entries_are_standard_normal():
    """Over 10⁶ entries √D·S_ij: the first four moments to four standard errors each."""
    entries = built(Gaussian(out_size=100), 10_000).apply(torch.eye(10_000)).flatten() * 10
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3)):
        variance = math.prod(range(1, 2 * power, 2)) - moment**2  # E x^2k − (E x^k)²
        error = (variance / entries.numel()) ** 0.5
        assert abs(float((entries.double() ** power).mean()) - moment) <= 4 * error


def test_rademacher_entries_are_fair_signs():
    entries = built(Rademacher(out_size=100), 10_000).apply(torch.eye(10_000)).flatten() * 10
    torch.testing.assert_close(entries.abs(), torch.ones_like(entries))
    assert abs(float(entries.sign().mean())) <= 4 / entries.numel() ** 0.5


@pytest.mark.parametrize("sketch", SKETCHES)
def test_no_two_columns_are_alike(sketch):
    """Columns of different tiles (163 columns each) are independent: |cosine| ≤ 5.5/√D."""
    s = built(sketch(out_size=100), 3000)
    columns = s.apply(torch.eye(3000))
    columns /= columns.norm(dim=1, keepdim=True)
    largest = (columns @ columns.mT).fill_diagonal_(0).abs().max()
    # 4.5 million pairs: a normal variable passes 5.5 with probability 4e-8 each
    assert float(largest) <= 5.5 / 100**0.5 * 1.1


@pytest.mark.parametrize("sketch", SKETCHES)
def test_seeds_differ(sketch):
    x = torch.ones(100)
    assert not torch.equal(built(sketch(), 100, 1).apply(x), built(sketch(), 100, 2).apply(x))


@pytest.mark.parametrize("sketch", SKETCHES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_precision_is_that_of_the_vector(sketch, dtype):
    s = built(sketch(out_size=16), 500)
    x = torch.randn(500, generator=Generator().manual_seed(1)).to(dtype)
    sketched, back = s.apply(x), s.adjoint(torch.ones(16, dtype=dtype))
    assert sketched.dtype == back.dtype == dtype
    entries, exact = s.apply(torch.eye(500).double()), s.apply(x.double())
    wide = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    # 500 sums in the wide precision, and one rounding to the vector's own
    bound = 500 * wide * (x.double().abs() @ entries.abs()) + torch.finfo(dtype).eps * exact.abs()
    assert ((sketched.double() - exact).abs() <= bound).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("sketch", SKETCHES)
def test_one_seed_is_one_sketch_on_every_device(sketch):
    there = sketch().build(1000, Generator().manual_seed(0), torch.device("cuda"))
    eye = torch.eye(1000)
    assert torch.equal(there.apply(eye.cuda()).cpu(), built(sketch(), 1000).apply(eye))
