import threading

import numpy as np
import pytest
import torch
from torch import Generator
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from sketchbench.linalg import Workspace, compiled, factor_order, fwht, hadamard

CPU = torch.device("cpu")
UNIT = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}


def normal(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=Generator().manual_seed(seed))


def distance(actual, expected):
    return float((actual.double() - expected.double()).norm() / expected.double().norm())


def bound(size, dtype):
    """Each pass of additions rounds once, the scale twice: the sum of their relative errors."""
    return (size.bit_length() + 1) * UNIT[dtype]


def oracle(x):
    """Butterflies of two in float64: another algorithm."""
    y, half = x.double().numpy().copy(), 1
    while half < len(y):
        pairs = y.reshape(-1, 2, half)
        y = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], 1).reshape(-1)
        half *= 2
    return torch.from_numpy(y) / len(y) ** 0.5


def test_every_size_against_the_dense_matrix(kernel):
    """A factor's product sums 16 rounded terms where butterflies add 4 times; the truth sums M."""
    slack = 4 if kernel == "torch" else 1
    for bits in range(12):
        size = 1 << bits
        h = hadamard(size, torch.float64, CPU)
        for dtype in (torch.float32, torch.float64):
            x = normal(3, size, dtype=dtype, seed=bits)
            actual = fwht(x, kernel=kernel)
            assert actual.dtype == dtype
            allowed = slack * bound(size, dtype) + size * UNIT[torch.float64]
            assert distance(actual, x.double() @ h) <= allowed, (size, dtype)


def test_dense_matrix_is_sylvesters_and_orthogonal():
    h = hadamard(64, torch.float64, CPU)
    torch.testing.assert_close(h @ h.mT, torch.eye(64, dtype=torch.float64), rtol=0, atol=1e-15)
    bits = torch.tensor([[(row & column).bit_count() for column in range(64)] for row in range(64)])
    assert torch.equal(h * 8, 1.0 - 2.0 * (bits % 2))


@pytest.mark.parametrize("bits", [13, 18, 19, 20])
def test_long_vectors_against_another_algorithm(kernel, bits):
    """2^19 is the first that the compiled kernel passes over memory in strips."""
    x = normal(1 << bits, dtype=torch.float32)
    assert distance(fwht(x, kernel=kernel), oracle(x)) <= bound(1 << bits, torch.float32)


def test_is_its_own_inverse_and_linear(kernel):
    x, y = normal(2, 4096), normal(2, 4096, seed=1)
    assert distance(fwht(fwht(x, kernel=kernel), kernel=kernel), x) <= 1e-14
    together = fwht(2 * x - 3 * y, kernel=kernel)
    apart = 2 * fwht(x, kernel=kernel) - 3 * fwht(y, kernel=kernel)
    assert distance(together, apart) <= 1e-14


def test_input_of_any_layout_stays_as_it_is(kernel):
    wide = normal(4096, 3, 2, dtype=torch.float32)
    before, x = wide.clone(), wide.permute(2, 1, 0)
    expected = fwht(x.contiguous(), kernel=kernel)
    assert torch.equal(fwht(x, kernel=kernel), expected)
    assert torch.equal(wide, before)
    rows = torch.cat([x[0], x[1]], 1)[:, :4096]  # rows with a gap between them
    assert torch.equal(fwht(rows, kernel=kernel), expected[0])


def test_batches_are_their_vectors_and_may_be_empty(kernel):
    x = normal(2, 5, 4096, dtype=torch.float32)
    one = torch.stack([fwht(row, kernel=kernel) for row in x.view(10, -1)]).view_as(x)
    assert distance(fwht(x, kernel=kernel), one) <= bound(4096, torch.float32)
    assert fwht(x[:0], kernel=kernel).shape == (0, 5, 4096)


def test_workspace_changes_nothing_and_holds_no_result(kernel):
    space, shapes = Workspace(), [(2, 4096), (1, 16384), (3, 256), (2, 4096)]
    inputs = [normal(*shape, dtype=torch.float32, seed=i) for i, shape in enumerate(shapes)]
    found = [fwht(x, space, kernel=kernel) for x in inputs]
    for index in (0, 1):
        space.buffer(index, (100,), torch.float32, CPU).fill_(torch.nan)
    for x, y in zip(inputs, found, strict=True):
        assert torch.equal(fwht(x, kernel=kernel), y)
        assert torch.equal(fwht(x, space, kernel=kernel), y)
        out = torch.full_like(x, torch.nan)
        assert fwht(x, space, out=out, kernel=kernel) is out
        assert torch.equal(out, y)


def test_narrow_numbers_are_transformed_in_float32_and_rounded_once():
    x = normal(512, dtype=torch.bfloat16)
    assert torch.equal(fwht(x), fwht(x.float()).bfloat16())


def test_a_number_that_is_not_finite_reaches_every_entry(kernel):
    x = normal(4096, dtype=torch.float32)
    x[77] = torch.inf
    assert not fwht(x, kernel=kernel).isfinite().any()


@pytest.mark.parametrize("size", [64, 4096])
def test_can_be_differentiated_and_mapped_over(size):
    x, w = normal(3, size), normal(3, size, seed=1)
    expected = fwht(w)
    leaf = x.clone().requires_grad_()
    (fwht(leaf) * w).sum().backward()
    assert distance(leaf.grad, expected) <= 1e-14
    _, tangent = torch.func.jvp(fwht, (x,), (w,))
    assert distance(tangent, expected) <= 1e-14
    assert distance(torch.func.vmap(fwht)(w), expected) <= 1e-14
    with torch.no_grad():
        assert torch.equal(fwht(leaf), fwht(x))


def test_global_generators_are_untouched(kernel):
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    fwht(torch.ones(4096), kernel=kernel)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (torch.ones(3, 48), "fwht: x of shape (3, 48): its last side is no power of two"),
        (torch.ones(3, 0), "no power of two"),
        (torch.tensor(1.0), "no power of two"),
        (torch.ones(8, dtype=torch.int64), "fwht: x is torch.int64; floating point is needed"),
        (torch.ones(8, dtype=torch.complex64), "floating point is needed"),
    ],
)
def test_bad_input_is_named(x, said):
    with pytest.raises(ValueError, match="fwht") as raised:
        fwht(x)
    assert said in str(raised.value)


def test_bad_out_and_kernel_are_named():
    x = torch.ones(2, 8)
    bad = (x, torch.ones(8), torch.ones(2, 8, dtype=torch.float64), torch.ones(8, 2).mT)
    for out in bad:
        with pytest.raises(ValueError, match="fwht: out"):
            fwht(x, out=out)
    with pytest.raises(ValueError, match="fwht: no kernel is called 'numba'; known are auto"):
        fwht(x, kernel="numba")
    with pytest.raises(ValueError, match="power of two"):
        hadamard(12, torch.float32, CPU)


def test_factors_are_smaller_on_a_cpu():
    assert factor_order("cpu") == 16 < factor_order(torch.device("cuda", 0))


def test_threads_with_workspaces_of_their_own_do_not_meet(kernel):
    inputs = [normal(8, 2**14, dtype=torch.float32, seed=seed) for seed in range(3)]
    expected, found = [fwht(x, kernel=kernel) for x in inputs], [None] * 3

    def work(index):
        space = Workspace()
        for _ in range(3):
            found[index] = fwht(inputs[index], space, kernel=kernel)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(map(torch.equal, found, expected))


@pytest.mark.skipif(not compiled().used, reason=compiled().reason)
def test_compiled_transform_is_an_operation_that_torch_sees():
    """Fake tensors pass, and its additions are counted."""
    with FlopCounterMode(display=False) as counter:
        fwht(torch.ones(3, 4096), kernel="compiled")
    assert counter.get_total_flops() == 3 * 4096 * 12
    with FakeTensorMode():
        assert fwht(torch.ones(3, 2**20), kernel="compiled").shape == (3, 2**20)
