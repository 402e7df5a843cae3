"""`ema-basis`: the batch projected on the range of an EMA of sketches."""

import pytest
import torch
from sketchbench_tri_sketch import EmaBasis
from sketchbench_tri_sketch.projections import drawn
from torch import Generator

N, D, M = 24, 7, 5


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def reading(recipe, seed=0):
    return recipe.reading(D, M, N, Generator().manual_seed(seed)).double()


def gradient(subject, rows, delta, update=True):
    kept, note = subject.keep(rows, None, update)
    return subject.gradient(delta, kept, note)


def test_the_sketch_of_the_ema_is_the_ema_of_the_sketches():
    """Lemma 4.1 of arXiv 2510.00442, to 1e-12 in float64 over 200 steps."""
    subject, beta = reading(EmaBasis(beta=0.95)), 0.95
    mean = torch.zeros(N, D, dtype=torch.float64)
    for step in range(200):
        rows = normal(N, D, seed=step)
        subject.keep(rows, None, True)
        mean = beta * mean + (1 - beta) * rows
    dense = mean.T @ drawn(subject.seed, N, 5, mean)
    assert (subject.sketch - dense).norm() <= 1e-12 * dense.norm()


def test_the_average_of_one_matrix_is_its_sketch_from_the_first_step():
    subject, rows = reading(EmaBasis(beta=0.9)), normal(N, D)
    for _ in range(3):
        subject.keep(rows, None, True)
        torch.testing.assert_close(subject.average, rows.T @ drawn(subject.seed, N, 5, rows))


@pytest.mark.parametrize("beta", [0.0, 0.9])
@pytest.mark.parametrize("mean_column", [False, True])
def test_the_gradient_is_that_of_the_batch_projected_on_the_basis(beta, mean_column):
    subject = reading(EmaBasis(columns=3, beta=beta, mean_column=mean_column))
    rows, delta = normal(N, D, seed=8), normal(N, M, seed=9)
    columns = 0
    for batch in (normal(N, D, seed=7), rows):
        found = gradient(subject, batch, delta)
        columns = beta * columns + (1 - beta) * batch.T @ drawn(subject.seed, N, 3, rows)
    if mean_column:
        columns = torch.cat([columns, rows.mean(0, keepdim=True).T], 1)
    projector = columns @ torch.linalg.pinv(columns)
    torch.testing.assert_close(found, delta.T @ rows @ projector)


def test_it_is_exact_for_inputs_of_its_rank():
    rows, delta = normal(N, 3) @ normal(3, D, seed=1), normal(N, M, seed=2)
    found = gradient(reading(EmaBasis(columns=3, beta=0.0)), rows, delta)
    torch.testing.assert_close(found, delta.T @ rows)


def test_it_is_exact_with_as_many_columns_as_features():
    rows, delta = normal(N, D), normal(N, M, seed=2)
    found = gradient(reading(EmaBasis(columns=D + 4)), rows, delta)
    torch.testing.assert_close(found, delta.T @ rows)


def test_a_short_batch_takes_the_first_rows_of_the_projections():
    """As if it were filled up with zeros."""
    short, padded = reading(EmaBasis()), reading(EmaBasis())
    rows = normal(N, D)
    rows[9:] = 0
    short.keep(rows[:9], None, True)
    padded.keep(rows, None, True)
    torch.testing.assert_close(short.sketch, padded.sketch)


@pytest.mark.parametrize("rows", [torch.zeros(N, D), torch.eye(N, D)[:, [0] * D]], ids=str)
def test_a_sketch_without_rank_gives_finite_gradients(rows):
    """Dead ReLUs and inputs of zeros; what there is, is kept."""
    rows, delta = rows.double(), normal(N, M)
    for beta in (0.0, 0.9):
        found = gradient(reading(EmaBasis(beta=beta)), rows, delta)
        torch.testing.assert_close(found, delta.T @ rows)


def test_a_batch_seen_again_moves_nothing():
    subject = reading(EmaBasis())
    rows, delta = normal(N, D), normal(N, M, seed=1)
    first, state = gradient(subject, rows, delta), subject.sketch.clone()
    assert torch.equal(gradient(subject, rows, delta, update=False), first)
    assert torch.equal(subject.sketch, state)
    assert subject.steps == 1


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_the_gradient_is_differentiable_for_a_basis_that_is_state(beta):
    subject = reading(EmaBasis(columns=3, beta=beta))
    rows, delta = normal(N, D), normal(N, M, seed=1)
    with torch.no_grad():
        _, basis = subject.keep(rows, None, True)[0]
    delta.requires_grad_()
    again = rows.clone().requires_grad_()
    weights = normal(M, D, seed=3)
    found = (gradient(subject, again, delta, update=False) * weights).sum()
    dense = (delta.T @ again @ basis @ basis.T * weights).sum()
    for ours, truth in zip(
        torch.autograd.grad(found, (again, delta)),
        torch.autograd.grad(dense, (again, delta)),
        strict=True,
    ):
        torch.testing.assert_close(ours, truth)


def test_the_gradient_is_differentiable_twice():
    subject = EmaBasis(columns=2).reading(3, 2, 4, Generator().manual_seed(0)).double()
    subject.keep(normal(4, 3), None, True)
    inputs = normal(4, 3).requires_grad_(), normal(4, 2, seed=1).requires_grad_()

    def estimated(rows, delta):
        return gradient(subject, rows, delta, update=False)

    assert torch.autograd.gradcheck(estimated, inputs)
    assert torch.autograd.gradgradcheck(estimated, inputs)


def test_projections_of_a_living_ema_are_not_redrawn():
    subject = reading(EmaBasis())
    subject.redraw()
    subject.keep(normal(N, D), None, True)
    with pytest.raises(RuntimeError, match="ema-basis: an EMA over 1 steps lives"):
        subject.redraw()


def test_resizing_starts_sketch_projections_and_counter_anew():
    subject = reading(EmaBasis())
    subject.keep(normal(N, D), None, True)
    seed = subject.seed
    subject.resize(1)
    assert subject.seed != seed
    assert subject.steps == 0
    assert subject.sketch.shape == (D, 3)
    assert not subject.sketch.any()
    assert subject.keep(normal(N, D), None, True)[0][0].shape == (N, 3)


def test_nothing_lives_from_step_to_step_without_a_memory():
    assert sum(b.numel() for b in reading(EmaBasis(beta=0.0)).buffers()) == 0
