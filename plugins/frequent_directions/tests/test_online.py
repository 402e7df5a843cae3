"""Online methods against dense truth: projections, full rank, guarantees."""

import math

import pytest
import sketchbench_frequent_directions as fd
import torch
from sketchbench_frequent_directions.online.preconditioner import Preconditioner, _shrinkage
from sketchbench_frequent_directions.online.rows import absorb_row
from sketchbench_frequent_directions.sketch import Sketch, absorb, empty
from sketchbench_frequent_directions.solvers.svd import svd
from torch import nn

from sketchbench.builtin import LogisticStream
from sketchbench.builtin.metrics.regret import CumulativeLoss
from sketchbench.builtin.workloads.regret import Online
from sketchbench.run import Run, Wanted

D = 12


def stream(rounds=60, size=D, rank=None, seed=0):
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randn(rounds, rank or size, generator=rng, dtype=torch.double)
    if rank is None:
        return rows * torch.arange(1, size + 1) ** -0.5
    basis = torch.randn(rank, size, generator=rng, dtype=torch.double)
    return rows @ basis


def played(recipe, rows):
    """Points (T + 1, d) that linear costs, the rows (T, d), lead a method to."""
    point = nn.Parameter(torch.zeros(rows.shape[1], dtype=rows.dtype))
    optimizer = recipe.build([point])
    points = [point.detach().clone()]
    for row in rows:
        point.grad = row.clone()
        optimizer.step()
        points.append(point.detach().clone())
    return torch.stack(points)


def dense(metric, size=D):
    """H (d, d)."""
    eye = torch.eye(size, dtype=torch.double)
    if metric.vectors is None:
        return torch.diag(metric.values)
    u = metric.vectors
    return (u * metric.values) @ u.mT + float(metric.floor) * (eye - u @ u.mT)


def drawn(rank, floor, seed=1):
    rng = torch.Generator().manual_seed(seed)
    u = torch.linalg.qr(torch.randn(D, rank, generator=rng, dtype=torch.double))[0]
    values = 10 ** (4 * torch.rand(rank, generator=rng, dtype=torch.double) - 3)
    return Preconditioner(u, values, floor), torch.randn(D, generator=rng, dtype=torch.double)


METRICS = [drawn(4, 0.3), drawn(4, 1e-6), drawn(D, 0.0), drawn(4, 50.0)]
METRICS += [(Preconditioner(None, torch.linspace(0.01, 9, D).double()), drawn(1, 1.0)[1])]


@pytest.mark.parametrize(("metric", "y"), METRICS)
def test_solving_is_the_dense_pseudo_inverse(metric, y):
    expected = torch.linalg.pinv(dense(metric), hermitian=True) @ y
    torch.testing.assert_close(metric.solve(y), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("metric", "y"), METRICS)
@pytest.mark.parametrize("radius", [0.1, 1.0, 3.0])
def test_a_projection_is_the_constrained_minimum(metric, y, radius):
    """Its own optimality: H(y − x) = μx with μ ≥ 0, on the sphere."""
    x = metric.project(y, radius)
    if y.norm() <= radius:
        assert torch.equal(x, y)
        return
    assert x.norm().item() == pytest.approx(radius, rel=1e-12)
    pull = dense(metric) @ (y - x)
    mu = pull @ x / radius**2
    assert mu >= 0
    assert (pull - mu * x).norm() <= 1e-9 * dense(metric).norm() * y.norm()


def test_what_the_metric_does_not_see_takes_the_room_that_is_left():
    metric, y = drawn(4, 0.0)
    u = metric.vectors
    seen = u @ (u.mT @ y)
    wide = metric.project(y, 1.01 * seen.norm().item())
    torch.testing.assert_close(u @ (u.mT @ wide), seen)
    assert wide.norm().item() == pytest.approx(1.01 * seen.norm().item())
    narrow = metric.project(y, 0.5 * seen.norm().item())
    assert (narrow - u @ (u.mT @ narrow)).norm() <= 1e-12
    nearly = metric._replace(floor=1e-9).project(y, 0.5 * seen.norm().item())
    torch.testing.assert_close(narrow, nearly, rtol=0, atol=1e-6)


@pytest.mark.parametrize("room", [0.0, 1e-16])
def test_what_is_out_of_the_ball_by_rounding_alone_stays(room):
    """Norms are summed in two orders: one may say that y is out where the other doesn't."""
    y = torch.randn(D, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    radius = math.sqrt(y.numpy().dot(y.numpy()) * (1 + 4 * room)) + room
    factors = _shrinkage(torch.linspace(0.1, 1, D).double(), y, radius)
    torch.testing.assert_close(factors, torch.ones(D).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("beta2", [1.0, 0.9])
@pytest.mark.parametrize("rank", [1, 5, D])
def test_a_row_is_absorbed_as_an_increment_is(rank, beta2):
    one = other = empty(D, rank, dtype=torch.double)
    for row in stream():
        one = absorb_row(one, row, beta2, beta2)
        other = absorb(other, row[:, None], beta2=beta2, tail_decay=beta2, solver=svd)
    for kept in (one, other):
        gram = kept.vectors.mT @ kept.vectors
        assert (gram - torch.diag((kept.roots > 0).double())).abs().max() <= 1e-12
    scaled = [(s.vectors * s.roots) for s in (one, other)]
    torch.testing.assert_close(scaled[0] @ scaled[0].mT, scaled[1] @ scaled[1].mT)
    torch.testing.assert_close(one.tail, other.tail)


@pytest.mark.parametrize("radius", [None, 0.5])
def test_at_full_rank_s_adagrad_is_full_matrix_adagrad(radius):
    rows = stream()
    full = played(fd.AdagradFull(lr=0.3, delta=0.1, radius=radius), rows)
    ours = played(fd.SAdagrad(lr=0.3, delta=0.1, rank=D, radius=radius), rows)
    torch.testing.assert_close(ours, full, rtol=1e-9, atol=1e-10)


def test_a_rank_of_the_stream_is_exact_without_any_delta():
    """The first three rows span all: a singular value of rounding must not become a step.

    Full AdaGrad squares the spectrum: half the digits, 1e-8 of the largest, is what is compared.
    """
    rows = stream(rank=3)
    full = played(fd.AdagradFull(lr=0.3), rows)
    ours = played(fd.SAdagrad(lr=0.3, rank=3), rows)
    wider = played(fd.SAdagrad(lr=0.3, rank=7), rows)
    torch.testing.assert_close(ours, full, rtol=0, atol=1e-6)
    torch.testing.assert_close(wider, ours, rtol=0, atol=1e-9)


@pytest.mark.parametrize("weak", [1e-6, 1e-10, 1e-12])
def test_at_full_rank_both_cut_the_same_directions_without_any_delta(weak):
    """Weak ones lie between √(d·ε) and d·ε of the largest: seen by a sketch, not by a sum."""
    rows = stream() * torch.where(torch.arange(D) < D - 3, 1.0, weak).double()
    full = played(fd.AdagradFull(lr=0.3), rows)
    ours = played(fd.SAdagrad(lr=0.3, rank=D), rows)
    # λ of 1e-12 of the largest is known to ε/1e-12 in G
    torch.testing.assert_close(ours, full, rtol=0, atol=0.3 * 1e-3 if weak > 1e-7 else 1e-9)
    assert (full[1:, D - 3 :].abs().amax() > 0.1) == (weak > 1e-7)


EQUIVARIANT = [
    *(fd.OGD(), fd.AdagradFull(), fd.SAdagrad(rank=9), fd.SAdagrad(rank=3)),
    *(fd.AdaFD(rank=3), fd.AdaFD(rank=9), fd.FDSON(rank=9), fd.RFDSON(rank=9), fd.RFDSON(rank=3)),
]


@pytest.mark.parametrize("recipe", EQUIVARIANT, ids=lambda r: f"{r.name}-{getattr(r, 'rank', '')}")
def test_losses_along_the_axes_and_rotated_are_the_same(recipe):
    """What a task plants must be empty to rounding, or steps along it are as large as others."""
    losses = []
    for rotated in (False, True):
        task = LogisticStream(width=16, rank=4, exponent=2.0, rotated=rotated, examples=150)
        score = Wanted(CumulativeLoss(), "play")
        run = Run(torch.device("cpu"), 0, [score])
        Online(task=task, optimizer=recipe, rates=(0.3,), radius=50.0).run(run)
        losses.append(run.measurements()[0].value)
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_steps_are_those_of_their_formulas():
    """Of each method on two orthogonal gradients, 3e₁ and 4e₂, at rank 1: ℓ = 2, escape 9."""
    rows = torch.tensor([[3.0, 0, 0], [0, 4.0, 0]], dtype=torch.double)
    s_adagrad = played(fd.SAdagrad(lr=1.0, rank=1), rows)
    torch.testing.assert_close(s_adagrad[1], torch.tensor([-1.0, 0, 0]).double())
    torch.testing.assert_close(s_adagrad[2], torch.tensor([-1.0, -1, 0]).double())
    ada_fd = played(fd.AdaFD(lr=1.0, delta=2.0, rank=1), rows)
    torch.testing.assert_close(ada_fd[2], torch.tensor([-3 / 5, -4 / (2 + 7**0.5), 0]).double())
    son = played(fd.FDSON(lr=0.5, delta=2.0, rank=1), rows)
    escaped = 16 / 2**0.5 - 9
    second = -4 * 0.5 / (1 + escaped)
    torch.testing.assert_close(son[2], torch.tensor([-1.5 / 10, second, 0]).double())
    robust = played(fd.RFDSON(lr=0.5, rank=1), rows)
    second = -4 * 0.5 / (8 / 2)  # of S, 9 and 16/2, the second escapes, and half of it is α
    torch.testing.assert_close(robust[2], torch.tensor([-1.5 / 9, second, 0]).double())
    ogd = played(fd.OGD(lr=1.0, delta=3.0), rows)
    torch.testing.assert_close(ogd[2], torch.tensor([-3 / 2, -4 / 5**0.5, 0]).double())


def test_updates_come_every_so_many_steps_of_one_gradient_or_the_mean():
    rows = torch.eye(5, dtype=torch.double)
    for skipped, expected in (("exact", [0, 3]), ("averaged", [0, (1, 2, 3)])):
        point = nn.Parameter(torch.zeros(5, dtype=torch.double))
        recipe = fd.SAdagrad(rank=5, update_every=3, skipped=skipped, delta=1.0)
        optimizer = recipe.build([point])
        for row in rows:
            point.grad = row.clone()
            optimizer.step()
        state = optimizer.state[point]
        sketched = (state["vectors"] * state["roots"]) @ (state["vectors"] * state["roots"]).mT
        truth = torch.zeros(5, 5, dtype=torch.double)
        for which in expected:
            mean = rows[list(which)].sum(0) / 3 if isinstance(which, tuple) else rows[which]
            truth += torch.outer(mean, mean)
        torch.testing.assert_close(sketched, truth)


@pytest.mark.parametrize("recipe", [fd.OGD(), fd.AdagradFull(), fd.SAdagrad(), fd.FDSON()])
@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_raises_and_leaves_the_state(recipe, broken):
    point = nn.Parameter(torch.ones(4))
    optimizer = recipe.build([point])
    point.grad = torch.ones(4)
    optimizer.step()
    before = {k: v.clone() for k, v in optimizer.state[point].items()}
    at = point.detach().clone()
    point.grad = torch.tensor([1.0, broken, 0, 0])
    with pytest.raises(FloatingPointError, match=r"parameter \(4,\) isn't finite"):
        optimizer.step()
    assert torch.equal(point, at)
    assert all(torch.equal(v, before[k]) for k, v in optimizer.state[point].items())
    point.grad = torch.full((4,), 1e20)
    with pytest.raises(FloatingPointError, match="too large: the sum of its squares overflows"):
        optimizer.step()
    assert torch.equal(point, at)
    assert all(torch.equal(v, before[k]) for k, v in optimizer.state[point].items())


@pytest.mark.parametrize("recipe", [fd.AdagradFull(), fd.SAdagrad(), fd.AdaFD(), fd.RFDSON()])
def test_a_gradient_of_zero_moves_nothing(recipe):
    points = played(recipe, torch.zeros(3, 4, dtype=torch.double))
    assert torch.equal(points, torch.zeros_like(points))


def test_sketches_are_plain_tensors_under_their_names():
    point = nn.Parameter(torch.zeros(4))
    optimizer = fd.SAdagrad(rank=2).build([point])
    point.grad = torch.ones(4)
    optimizer.step()
    assert set(optimizer.state[point]) == {"step", *Sketch._fields}
