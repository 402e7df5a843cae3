"""AFFD in blocks against its dense definition, and its κ against the closed form."""

import math
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError
from sketchbench_affd import BlockAFFD
from sketchbench_affd.affd import AFFDSketch
from torch import Generator

from sketchbench.linalg import compiled, hadamard

CPU = torch.device("cpu")


def built(size, seed=0, **fields):
    fields = {"out_size": 16, "block_size": 256, **fields}
    return BlockAFFD(**fields).build(size, Generator().manual_seed(seed), CPU)


def normal(*shape, seed=1):
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def dense(sketch):
    """S (D, N) as its docstring has it, from what it holds."""
    out, size = sketch.shape
    columns = []
    for part, (sign, gaussians) in zip(sketch._segments, sketch._held, strict=True):
        order = part.order
        places = sketch._places.get(order, torch.arange(order)).long()
        fold = torch.eye(out, dtype=torch.float64).repeat(1, order // out)
        permuted = fold @ torch.eye(order, dtype=torch.float64)[places]
        for block, signs in enumerate(sign.split(order)):
            mixed = gaussians[block].double()[:, None] * hadamard(order, torch.float64, CPU)
            columns.append(permuted @ mixed[:, : len(signs)] * signs)
    matrix = torch.cat(columns, 1)
    assert matrix.shape == (out, size)
    return matrix


@pytest.mark.parametrize("size", [1, 5, 256, 600, 700])  # below D, full blocks, a short last one
def test_apply_and_adjoint_are_products_with_the_matrix_of_the_definition(size):
    sketch, x, y = built(size), normal(3, size), normal(3, 16, seed=2)
    matrix = dense(sketch)
    torch.testing.assert_close(sketch.apply(x), x @ matrix.mT, rtol=0, atol=1e-12)
    torch.testing.assert_close(sketch.adjoint(y), y @ matrix, rtol=0, atol=1e-12)


def test_one_block_without_permutation_has_the_gram_matrix_of_literal_affd():
    """R_D √(M/D) H v = H_D fold_D(v), and H_D is orthogonal."""
    size, sketch = 200, built(200, permuted=False)
    sign, gaussians = sketch._held[0]
    still = [torch.arange(16), torch.arange(16)]
    literal = AFFDSketch((16, size), sign, gaussians[0], still, still)
    eye = torch.eye(size, dtype=torch.float64)
    ours, theirs = sketch.apply(eye), literal.apply(eye)
    torch.testing.assert_close(ours @ ours.mT, theirs @ theirs.mT, rtol=0, atol=1e-12)
    torch.testing.assert_close(
        ours @ hadamard(16, torch.float64, CPU), theirs, rtol=0, atol=1e-12
    )  # H_D itself


@pytest.mark.parametrize("regenerate", [False, True])
def test_slices_wherever_they_are_cut_add_up_to_the_vector(regenerate):
    sketch, x = built(1000, regenerate=regenerate), normal(2, 1000)
    product = torch.zeros(2, 16, dtype=torch.float64)
    cuts = [0, 3, 3, 250, 256, 700, 769, 999, 1000]
    for start, stop in reversed(list(pairwise(cuts))):
        sketch.accumulate(product, x[:, start:stop], start)
    torch.testing.assert_close(product, sketch.apply(x), rtol=0, atol=1e-12)


def test_a_slice_outside_of_the_vector_is_refused():
    with pytest.raises(ValueError, match="entries 90 to 110 aren't all within the vector's 100"):
        built(100).accumulate(torch.zeros(16), torch.ones(20), 90)


@pytest.mark.parametrize("kernel", ["torch", "auto"])
def test_regenerated_blocks_are_the_stored_ones_to_the_bit(kernel):
    fields = {"out_size": 64, "block_size": 4096, "kernel": kernel}
    stored, drawn = (built(9000, regenerate=flag, **fields) for flag in (False, True))
    x, y = normal(2, 9000).float(), normal(2, 64).float()
    assert torch.equal(stored.apply(x), drawn.apply(x))
    assert torch.equal(stored.adjoint(y), drawn.adjoint(y))


@pytest.mark.skipif(not compiled().used, reason=f"no compiled kernels: {compiled().reason}")
def test_the_compiled_kernel_agrees_with_torch_to_rounding():
    sketches = [
        built(9000, out_size=64, block_size=4096, kernel=kernel) for kernel in ("torch", "compiled")
    ]
    x = normal(9000)
    plain, fast = (sketch.apply(x) for sketch in sketches)
    torch.testing.assert_close(plain, fast, rtol=0, atol=1e-12)
    plain, fast = (sketch.apply(x.float()) for sketch in sketches)
    # 12 additions a transform and 192 a fold, in sums of about their number's root
    torch.testing.assert_close(plain, fast, rtol=0, atol=1e-5 * float(plain.abs().max()))


@pytest.mark.parametrize("permuted", [True, False])
@pytest.mark.parametrize("shape", ["column", "half-pair", "two blocks"])
def test_kappa_is_the_closed_form(shape, permuted):
    """Means over draws of the exact conditional κ, to four standard errors."""
    size, out, order = 512, 16, 256
    x = torch.zeros(size, dtype=torch.float64)
    x[
        {"column": slice(0, out), "half-pair": [3, 3 + out // 2], "two blocks": [0, 1, 300]}[shape]
    ] = 1
    x /= x.norm()
    share = x.square()
    chunks = share.view(-1, order if permuted else out).sum(1).square().sum()
    weight = (out - 1) / (order - 1) if permuted else 1.0
    expected = float(1 + 2 * weight * (chunks - share.square().sum()))
    draws = [built(size, seed, permuted=permuted).conditional_kappa(x) for seed in range(200)]
    found = torch.tensor(draws, dtype=torch.float64)
    error = float(found.std()) / len(draws) ** 0.5
    assert abs(float(found.mean()) - expected) <= 4 * error + 1e-9
    declared = BlockAFFD(out_size=out, block_size=order, permuted=permuted).guarantee(size)
    assert expected <= declared.kappa + 1e-9


def test_the_declared_kappa_is_that_of_a_flat_block():
    recipe = BlockAFFD(out_size=16, block_size=256)
    assert recipe.guarantee(10_000).kappa == pytest.approx(1 + 2 * 15 / 255 * (1 - 1 / 256))
    assert recipe.guarantee(1).kappa == 1  # S is one Gaussian column
    assert BlockAFFD(out_size=16, block_size=16).guarantee(99).kappa == pytest.approx(3 - 2 / 16)


def test_blocks_are_as_long_as_the_sketch_at_the_least():
    assert [part.order for part in built(100, out_size=64, block_size=16)._segments] == [64]


def test_a_last_block_is_as_short_as_16_entries_to_one_of_the_sketch():
    orders = {size: [p.order for p in built(size, block_size=1024)._segments] for size in (3, 2000)}
    assert orders == {3: [256], 2000: [1024]}
    assert [p.order for p in built(1030, block_size=1024)._segments] == [1024, 256]


def test_state_is_five_bytes_a_parameter_and_four_an_entry_of_a_block():
    stored = BlockAFFD(out_size=256, block_size=2**10)
    assert stored.state_bytes(2**20) == 5 * 2**20 + 4 * 2**10
    drawn = stored.model_copy(update={"regenerate": True})
    assert drawn.state_bytes(2**20) == 4 * 2**10


@pytest.mark.parametrize("field", ["out_size", "block_size"])
def test_sizes_that_are_no_power_of_two_are_refused(field):
    with pytest.raises(ValidationError, match=f"{field} 100 is no power of two; take 64 or 128"):
        BlockAFFD(**{field: 100})


def test_seeds_differ():
    x = torch.ones(100)
    assert not torch.equal(built(100, 1).apply(x), built(100, 2).apply(x))


def test_gradients_through_the_adjoint_are_images():
    """So that implicit gradients, of ω ↦ L(θ + Sᵀω), are explicit ones."""
    sketch, x = built(600), normal(600)
    omega = torch.zeros(16, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(sketch.adjoint(omega) @ x, omega)
    torch.testing.assert_close(gradient, sketch.apply(x), rtol=0, atol=1e-11)
    assert math.isfinite(float(gradient.sum()))
