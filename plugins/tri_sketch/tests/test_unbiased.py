"""`unbiased`: right in the mean, with the variance that it says, from a seed and X alone."""

import math

import pytest
import torch
from sketchbench_tri_sketch import Unbiased
from torch import Generator

N, D, M = 24, 7, 5


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def reading(recipe, seed=0):
    return recipe.reading(D, M, N, Generator().manual_seed(seed))


def gradient(subject, rows, delta, update=True):
    kept, note = subject.keep(rows, None, update)
    return subject.gradient(delta, kept, note)


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
def test_the_mean_over_steps_is_the_exact_gradient_and_the_variance_is_known(distribution):
    """E‖ĝ−g‖² = (‖A‖²‖δ‖² + ‖g‖²)/k, less 2Σ‖aᵢ‖²‖δᵢ‖²/k with signs; both within 5 errors."""
    draws, columns = 600, 3
    rows, delta = normal(N, D), normal(N, M, seed=1)
    subject = reading(Unbiased(columns=columns, distribution=distribution))
    exact = delta.T @ rows
    variance = rows.square().sum() * delta.square().sum() + exact.square().sum()
    if distribution == "rademacher":
        variance -= 2 * (rows.square().sum(1) * delta.square().sum(1)).sum()
    variance /= columns
    found = torch.stack([gradient(subject, rows, delta) for _ in range(draws)])
    squares = (found - exact).square().sum((1, 2))
    assert (found.mean(0) - exact).norm() <= 5 * math.sqrt(variance / draws)
    assert abs(squares.mean() - variance) <= 5 * squares.std() / math.sqrt(draws)


def test_what_is_kept_is_x_and_a_step():
    rows = normal(N, D)
    subject = reading(Unbiased(columns=3))
    (sketch,), note = subject.keep(rows, None, True)
    assert sketch.shape == (3, D)
    assert note == 1
    drawn = subject._drawn(note, N, rows)
    torch.testing.assert_close(sketch, drawn.T @ rows)


def test_projections_are_fresh_in_each_step_or_fixed():
    rows, delta = normal(N, D), normal(N, M, seed=1)
    fresh, fixed = reading(Unbiased()), reading(Unbiased(projections="fixed"))
    assert not torch.equal(gradient(fresh, rows, delta), gradient(fresh, rows, delta))
    assert torch.equal(gradient(fixed, rows, delta), gradient(fixed, rows, delta))


def test_a_recomputation_draws_as_the_step_that_it_repeats():
    rows, delta = normal(N, D), normal(N, M, seed=1)
    subject = reading(Unbiased())
    first = gradient(subject, rows, delta)
    assert torch.equal(gradient(subject, rows, delta, update=False), first)
    assert not torch.equal(gradient(subject, rows, delta), first)


def test_layers_draw_independently():
    rng = Generator().manual_seed(0)
    rows, delta = normal(N, D), normal(N, M, seed=1)
    first, second = (Unbiased().reading(D, M, N, rng) for _ in range(2))
    assert not torch.equal(gradient(first, rows, delta), gradient(second, rows, delta))


def test_the_gradient_is_differentiable_in_what_it_depends_on():
    subject = reading(Unbiased(columns=3))
    subject.keep(normal(4, 3), None, True)
    inputs = normal(4, 3).requires_grad_(), normal(4, 2, seed=1).requires_grad_()

    def estimated(rows, delta):
        return gradient(subject, rows, delta, update=False)

    assert torch.autograd.gradcheck(estimated, inputs)
    assert torch.autograd.gradgradcheck(estimated, inputs)


def test_resizing_starts_anew():
    rows, delta = normal(N, D), normal(N, M, seed=1)
    subject = reading(Unbiased(rank=1))
    before = gradient(subject, rows, delta)
    subject.resize(1)
    assert subject.steps == 0
    assert not torch.equal(gradient(subject, rows, delta), before)
    subject.resize(3)
    assert subject.keep(rows, None, True)[0][0].shape == (7, D)
