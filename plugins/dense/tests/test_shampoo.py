"""Shampoo against its formula, and against the laws of optimizers."""

import pytest
import sketchbench_dense as dense
import torch
from pydantic import ValidationError
from torch import Generator, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sketchbench.linalg import symmetric_power
from sketchbench.testing import laws

BARE = {"graft": "none", "momentum": 0.0, "nesterov": False}

test_laws = laws(dense.Shampoo())
test_laws_of_the_blocked = laws(
    dense.Shampoo(update_every=3, skipped="averaged", block_size=4, **BARE)
)


def draw(*shape):
    return torch.randn(shape, generator=Generator().manual_seed(0), dtype=torch.float64)


def run(recipe, gradients):
    p = nn.Parameter(torch.zeros_like(gradients[0]))
    optimizer, found = recipe.build([p]), []
    for gradient in gradients:
        p.data.zero_()
        p.grad = gradient
        optimizer.step()
        found.append(-p.detach())
    return found, optimizer.state[p]


def test_an_update_is_that_of_the_paper():
    gradients = list(draw(6, 5, 4))
    found, _ = run(dense.Shampoo(lr=1.0, beta2=0.9, **BARE), gradients)
    ages = list(enumerate(reversed(gradients)))
    left = sum(0.9**age * g @ g.T for age, g in ages)
    right = sum(0.9**age * g.T @ g for age, g in ages)
    roots = [
        symmetric_power(factor, -0.25, 1e-7 * float(torch.linalg.eigvalsh(factor)[-1]))
        for factor in (left, right)
    ]
    torch.testing.assert_close(found[-1], roots[0] @ gradients[-1] @ roots[1])


def test_float32_roots_are_near_and_the_state_keeps_its_precision():
    gradients = list(draw(6, 5, 5).float())
    wide, state = run(dense.Shampoo(lr=1.0, **BARE), gradients)
    narrow, same = run(dense.Shampoo(lr=1.0, precision="float32", **BARE), gradients)
    condition = float(torch.linalg.cond(state["0.0.factor"][0]))
    assert condition < 1e4
    difference = (wide[-1] - narrow[-1]).norm()
    assert 0 < difference <= 100 * torch.finfo(torch.float32).eps * condition * wide[-1].norm()
    assert {v.dtype for k, v in same.items() if k != "step"} == {torch.float32}


class NarrowFails(TorchDispatchMode):
    """A fault: no decomposition in float32 converges."""

    def __init__(self):
        super().__init__()
        self.tried = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "eigh" in str(func):
            self.tried.append(args[0].dtype)
            if args[0].dtype == torch.float32:
                raise torch.linalg.LinAlgError("the algorithm failed to converge")
        return func(*args, **(kwargs or {}))


def test_a_decomposition_that_fails_in_float32_is_tried_in_float64():
    gradients = [draw(5, 5).float()]
    with NarrowFails() as faults:
        found, _ = run(dense.Shampoo(lr=1.0, precision="float32", **BARE), gradients)
    assert set(faults.tried) == {torch.float32, torch.float64}
    expected, _ = run(dense.Shampoo(lr=1.0, **BARE), gradients)
    assert torch.equal(found[0], expected[0])


def test_a_first_step_is_orthogonal_but_for_the_ridge():
    gradient = draw(5, 4)
    found, _ = run(dense.Shampoo(lr=1.0, epsilon=1e-14, **BARE), [gradient])
    left, _, right = torch.linalg.svd(gradient, full_matrices=False)
    torch.testing.assert_close(found[0], left @ right, rtol=0, atol=1e-6)


def test_factors_observe_every_gradient_while_roots_wait():
    gradients = list(draw(5, 5, 4))
    _, waited = run(dense.Shampoo(lr=1.0, beta2=0.9, update_every=4, **BARE), gradients)
    _, at_once = run(dense.Shampoo(lr=1.0, beta2=0.9, **BARE), gradients)
    for key, value in at_once.items():
        torch.testing.assert_close(waited[key], value)
    _, later = run(dense.Shampoo(lr=1.0, beta2=0.9, update_every=4, **BARE), gradients[:4])
    first = run(dense.Shampoo(lr=1.0, beta2=0.9, **BARE), gradients[:1])[1]
    assert torch.equal(later["0.0.root"], first["0.0.root"])
    assert not torch.equal(later["0.0.factor"], first["0.0.factor"])


def test_it_takes_twice_the_squares_of_its_axes():
    p = nn.Parameter(torch.empty(48, 20, device="meta"))
    recipe = dense.Shampoo(**BARE)
    assert recipe.state_bytes([p]) == {"preconditioner": 4 * 2 * (48**2 + 20**2)}
    blocked = dense.Shampoo(block_size=16, **BARE)
    blocks = 3 * (2 * 16**2) + 3 * (16**2 + 4**2)  # (16, 16) and (16, 4), three times each
    assert blocked.state_bytes([p]) == {"preconditioner": 4 * 2 * blocks}


def test_a_gradient_of_zero_moves_nothing():
    found, state = run(dense.Shampoo(lr=1.0, **BARE), [torch.zeros(3, 2, dtype=torch.float64)])
    assert not found[0].any()
    assert all(value.isfinite().all() for value in state.values())


def test_a_large_axis_takes_the_graft_unless_it_is_cut():
    p = nn.Parameter(torch.empty(30, 4, device="meta"))
    assert dense.Shampoo(max_dim=16, **BARE).state_bytes([p]) == {}
    assert dense.Shampoo(max_dim=16, block_size=16, **BARE).state_bytes([p])["preconditioner"]


def test_nesterov_needs_momentum():
    with pytest.raises(ValidationError, match="nesterov needs a momentum above 0"):
        dense.Shampoo(momentum=0.0)
