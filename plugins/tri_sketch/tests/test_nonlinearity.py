"""Non-linearities of a block: δ is that of torch, from less."""

import pytest
import torch
from sketchbench_tri_sketch.nonlinearity import Quantised, Relu, is_nonlinearity, slope_of
from torch import Generator, nn

SMOOTH = [nn.Tanh(), nn.SiLU(), nn.GELU(), nn.GELU(approximate="tanh")]


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=dtype)


def exact(module, z, grad):
    z = z.clone().requires_grad_()
    out = module(z)
    return out.detach(), torch.autograd.grad(out, z, grad)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_relu_is_exact_to_the_bit_from_one_bit_an_entry(dtype):
    z, grad = normal(7, 11).to(dtype), normal(7, 11, seed=1).to(dtype)
    z[0, :4] = torch.tensor([0.0, -0.0, torch.nan, torch.inf])
    grad[0, 0] = grad[1, :3] = torch.inf
    out, delta = exact(nn.ReLU(), z, grad)
    ours, kept = Relu().forward(z.clone())
    assert torch.equal(ours.nan_to_num(9), out.nan_to_num(9))
    assert torch.equal(Relu().delta(grad, kept), delta)
    assert sum(t.untyped_storage().nbytes() for t in kept) == -(-77 // 8)


@pytest.mark.parametrize("module", SMOOTH, ids=repr)
def test_a_slope_gives_the_gradient_by_the_pre_activation(module):
    z, grad = normal(5, 6, dtype=torch.float64), normal(5, 6, seed=1, dtype=torch.float64)
    torch.testing.assert_close(slope_of(module)(grad, z), exact(module, z, grad)[1])


@pytest.mark.parametrize("module", SMOOTH, ids=repr)
def test_a_slope_can_be_differentiated(module):
    z, grad = normal(2, 3, dtype=torch.float64), normal(2, 3, seed=1, dtype=torch.float64)
    assert torch.autograd.gradcheck(slope_of(module), (grad.requires_grad_(), z.requires_grad_()))


@pytest.mark.parametrize("module", SMOOTH, ids=repr)
def test_eight_bits_are_off_by_half_a_step_of_the_pre_activation(module):
    """|σ''| is below 1.2 for all four, so that |δ − δ̂| ≤ 1.2 · step/2 · |∂loss/∂σ|."""
    z, grad = 2 * normal(40, 30), normal(40, 30, seed=1)
    out, delta = exact(module, z, grad)
    ours, kept = Quantised(module).forward(z.clone())
    steps = (z.amax(1, keepdim=True) - z.amin(1, keepdim=True)) / 255
    assert torch.equal(ours, out)
    off = (Quantised(module).delta(grad, kept) - delta).abs()
    assert (off <= 0.6 * steps * grad.abs() + 1e-5).all()
    assert sum(t.untyped_storage().nbytes() for t in kept) == 40 * 30 + 40 * 8


def test_only_the_known_ones_go_into_a_block():
    assert is_nonlinearity(nn.ReLU())
    assert not is_nonlinearity(nn.LeakyReLU())
    assert not is_nonlinearity(nn.Dropout())
    assert not is_nonlinearity(None)


def test_eight_bits_are_of_the_pre_activation_where_the_module_works_in_place():
    z = normal(7, 11)
    out, kept = Quantised(nn.SiLU(inplace=True)).forward(z.clone())
    truth, expected = Quantised(nn.SiLU()).forward(z.clone())
    assert torch.equal(out, truth)
    assert all(torch.equal(a, b) for a, b in zip(kept, expected, strict=True))
