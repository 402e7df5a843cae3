"""Grafts against their formulas, written out."""

import pytest
import torch
from torch import Generator

from sketchbench.preconditioning.grafting import GRAFTS, grafted


def run(name, gradients, beta2):
    """Return D of each gradient in turn."""
    graft = GRAFTS[name]
    shapes = graft.empty(tuple(gradients[0].shape))
    kept = {key: torch.zeros(shape, dtype=torch.float64) for key, shape in shapes.items()}
    return [graft.direction(kept, g, beta2, step) for step, g in enumerate(gradients, 1)]


def drawn(*shape, count=3):
    rng = Generator().manual_seed(0)
    return list(torch.randn(count, *shape, generator=rng, dtype=torch.float64))


def average(values, beta2):
    weights = [(1 - beta2) * beta2**age for age in reversed(range(len(values)))]
    return sum(weight * value for weight, value in zip(weights, values, strict=True))


@pytest.mark.parametrize("name", ["none", "sgd"])
def test_plain_grafts_are_the_gradient_and_keep_nothing(name):
    gradients = drawn(3, 4)
    assert all(d is g for d, g in zip(run(name, gradients, 0.9), gradients, strict=True))


def test_rmsprop_isnt_corrected():
    gradients = drawn(3, 4)
    squares = average([g.square() for g in gradients], 0.9)
    torch.testing.assert_close(run("rmsprop", gradients, 0.9)[-1], gradients[-1] / squares.sqrt())
    first = run("rmsprop", gradients, 0.9)[0]
    torch.testing.assert_close(first.abs(), torch.full_like(first, 10**0.5))


def test_adam_is_corrected():
    gradients = drawn(3, 4)
    squares = average([g.square() for g in gradients], 0.9) / (1 - 0.9**3)
    expected = gradients[-1] / (squares.sqrt() + 1e-8)
    torch.testing.assert_close(run("adam", gradients, 0.9)[-1], expected)


def test_adam_is_torchs_without_its_first_moment():
    gradients = drawn(3, 4)
    p = torch.nn.Parameter(torch.zeros(3, 4, dtype=torch.float64))
    theirs = torch.optim.Adam([p], lr=1.0, betas=(0.0, 0.9))
    for g in gradients:
        p.data.zero_()
        p.grad = g
        theirs.step()
    torch.testing.assert_close(run("adam", gradients, 0.9)[-1], -p.detach())


@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 2)])
def test_adafactor_is_of_rank_one_and_corrected(shape):
    gradients = drawn(*shape)
    matrices = [g.reshape(3, 4) for g in gradients]
    squares = [g.square() + 1e-30 for g in matrices]
    rows = average([s.mean(1) for s in squares], 0.9) / (1 - 0.9**3)
    columns = average([s.mean(0) for s in squares], 0.9) / (1 - 0.9**3)
    expected = matrices[-1] / (torch.outer(rows, columns) / rows.mean()).sqrt()
    torch.testing.assert_close(run("adafactor", gradients, 0.9)[-1], expected.reshape(shape))


def test_adafactor_keeps_all_of_a_vectors_squares():
    gradients = drawn(5)
    squares = average([g.square() for g in gradients], 0.9) / (1 - 0.9**3)
    torch.testing.assert_close(run("adafactor", gradients, 0.9)[-1], gradients[-1] / squares.sqrt())


@pytest.mark.parametrize("name", GRAFTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_of_zero_gives_zero(name, dtype):
    graft = GRAFTS[name]
    kept = {key: torch.zeros(s, dtype=dtype) for key, s in graft.empty((3, 4)).items()}
    found = graft.direction(kept, torch.zeros(3, 4, dtype=dtype), 0.9, 1)
    assert torch.equal(found, torch.zeros(3, 4, dtype=dtype))


def test_an_update_has_the_direction_of_one_and_the_length_of_the_other():
    preconditioned, direction = drawn(3, 4, count=2)
    found = grafted(preconditioned, direction)
    torch.testing.assert_close(found.norm(), direction.norm())
    torch.testing.assert_close(found / found.norm(), preconditioned / preconditioned.norm())


def test_where_nothing_is_left_of_the_preconditioned_the_graft_is_taken():
    direction = drawn(3, 4)[0]
    assert torch.equal(grafted(torch.zeros_like(direction), direction), direction)
