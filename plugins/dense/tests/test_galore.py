"""GaLore: its laws, the bases in which it is Adam, and its step in dense matrices."""

import copy
import io

import pytest
import sketchbench_dense as dense
import torch
from pydantic import ValidationError
from torch import Generator, nn

from sketchbench import Diverged
from sketchbench.measure import state_bytes
from sketchbench.testing import laws

CPU = torch.device("cpu")

test_galore = laws(dense.GaLore(rank=2, update_proj_gap=3))
test_galore_projected_anew_each_step = laws(dense.GaLore(rank=1, update_proj_gap=1))
test_galore_of_full_rank = laws(dense.GaLore(update_proj_gap=2, scale=1.0, weight_decay=0.1))


def gradients(shape, steps, seed=0, dtype=torch.float64):
    rng = Generator().manual_seed(seed)
    return [torch.randn(shape, generator=rng, dtype=dtype) for _ in range(steps)]


def walked(optimizer, p, grads):
    """Return where p is after each gradient."""
    path = []
    for grad in grads:
        p.grad = grad.clone()
        optimizer.step()
        path.append(p.detach().clone())
    return torch.stack(path)


def start(shape, dtype=torch.float64):
    return nn.Parameter(torch.zeros(shape, dtype=dtype))


def galore(p, **fields):
    return dense.GaLore(**{"scale": 1.0} | fields).build([p])


@pytest.mark.parametrize("shape", [(5,), ()])
def test_of_vectors_and_numbers_it_is_adam(shape):
    p, q = start(shape), start(shape)
    grads = gradients(shape, 8)
    ours = walked(galore(p, update_proj_gap=2, scale=0.1), p, grads)
    torch.testing.assert_close(ours, walked(torch.optim.Adam([q], lr=1e-2), q, grads))


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (4, 4), (2, 3, 2, 2)])
def test_at_full_rank_it_is_adam_in_a_rotated_basis(shape):
    # one projection for all steps, square: W P is what Adam steps, by the gradients G P
    grads = gradients(shape, 8)
    p = start(shape)
    optimizer = galore(p, rank=100, update_proj_gap=100)
    path = walked(optimizer, p, grads)
    basis = optimizer.state[p]["projector"]
    torch.testing.assert_close(basis.mT @ basis, torch.eye(len(basis), dtype=torch.float64))

    def turned(x):
        x = x.flatten(x.ndim - len(shape) + 1)
        return x @ basis if x.shape[-2] >= x.shape[-1] else x.mT @ basis

    q = start(turned(grads[0]).shape)
    theirs = walked(torch.optim.Adam([q], lr=1e-2), q, list(map(turned, grads)))
    torch.testing.assert_close(turned(path), theirs)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (3, 2, 2)])
def test_its_steps_are_those_of_singular_vectors(shape):
    lr, rank, gap, scale, betas, eps = 1e-2, 2, 3, 0.5, (0.9, 0.99), 1e-8
    grads = gradients(shape, 8)
    p = start(shape)
    fields = {"lr": lr, "rank": rank, "update_proj_gap": gap, "scale": scale, "betas": betas}
    optimizer = galore(p, **fields)
    matrix = torch.zeros_like(grads[0].flatten(1))
    mean = square = None
    for step, grad in enumerate(grads):
        (here,) = walked(optimizer, p, [grad])
        flat = grad.flatten(1)
        if step % gap == 0:
            left, _, right = torch.linalg.svd(flat, full_matrices=False)
            right_side = flat.shape[0] >= flat.shape[1]
            project = right[:rank].mT if right_side else left[:, :rank]
            # singular vectors are told up to sign: take those of the optimizer
            project = project * (project * optimizer.state[p]["projector"]).sum(0).sign()
            torch.testing.assert_close(optimizer.state[p]["projector"], project)
        small = flat @ project if right_side else project.mT @ flat
        mean = (1 - betas[0]) * small + (0 if mean is None else betas[0] * mean)
        square = (1 - betas[1]) * small**2 + (0 if square is None else betas[1] * square)
        step_ = mean / (1 - betas[0] ** (step + 1))
        step_ = step_ / ((square / (1 - betas[1] ** (step + 1))).sqrt() + eps)
        matrix = matrix - lr * scale * (step_ @ project.mT if right_side else project @ step_)
        torch.testing.assert_close(here.flatten(1), matrix)


def test_of_a_gradient_of_low_rank_the_projection_loses_nothing():
    rng = Generator().manual_seed(4)
    left, right = (torch.randn(n, 2, generator=rng, dtype=torch.float64) for n in (5, 9))
    grad = left @ right.mT
    p = start((5, 9))
    optimizer = galore(p, rank=2)
    walked(optimizer, p, [grad])
    basis = optimizer.state[p]["projector"]
    torch.testing.assert_close(basis @ (basis.mT @ grad), grad)


def test_projected_steps_are_multiplied_by_the_scale():
    p, q = start((5, 4)), start((5, 4))
    grads = gradients((5, 4), 4)
    half = walked(galore(p, rank=2, scale=0.5), p, grads)
    torch.testing.assert_close(2 * half, walked(galore(q, rank=2), q, grads))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(
    ("shape", "rank", "moment", "projector"),
    [
        ((9, 5), 2, 2 * 9, 2 * 5),
        ((5, 9), 2, 2 * 9, 2 * 5),
        ((5, 9), 50, 5 * 9, 5 * 5),
        ((8, 4, 3, 3), 3, 3 * 36, 3 * 8),
        ((9,), 2, 9, 0),
        ((1, 9), 2, 9, 1),
    ],
)
def test_its_bytes_are_a_projection_and_two_projected_moments(
    shape, rank, moment, projector, dtype
):
    p = start(shape, dtype)
    optimizer = galore(p, rank=rank)
    walked(optimizer, p, gradients(shape, 2, dtype=dtype))
    size = p.element_size()
    expected = {"momentum": moment, "second_moment": moment, "preconditioner": projector}
    expected = {part: numbers * size for part, numbers in expected.items()}
    assert state_bytes(optimizer, CPU) == {k: v for k, v in expected.items() if v}
    assert dense.GaLore(rank=rank).state_bytes([p]) == expected


@pytest.mark.parametrize(("shape", "rank"), [((1024, 1024), 512), ((4096, 1024), 819)])
def test_the_break_even_rank_is_mn_over_m_plus_n(shape, rank):
    assert dense.GaLore().break_even(shape) == rank


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_goes_on_from_its_state_to_the_bit(dtype):
    grads = gradients((6, 4), 9, dtype=dtype)
    p = start((6, 4), dtype)
    optimizer = galore(p, rank=2, update_proj_gap=3)
    walked(optimizer, p, grads[:4])
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    q = nn.Parameter(p.detach().clone())
    resumed = galore(q, rank=2, update_proj_gap=3)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(walked(optimizer, p, grads[4:]), walked(resumed, q, grads[4:]))


def test_a_copy_steps_as_the_original_does():
    p = start((6, 4))
    optimizer = galore(p, rank=2)
    walked(optimizer, p, gradients((6, 4), 3))
    again = copy.deepcopy(optimizer)
    (q,) = again.param_groups[0]["params"]
    grads = gradients((6, 4), 3, seed=1)
    assert torch.equal(walked(optimizer, p, grads), walked(again, q, grads))


def test_a_parameter_that_gets_its_gradient_late_is_projected_then():
    p, q, alone = start((4, 3)), start((3, 3)), start((3, 3))
    both = dense.GaLore(rank=2, update_proj_gap=2).build([p, q])
    walked(both, p, gradients((4, 3), 3))
    p.grad = None
    grads = gradients((3, 3), 5)
    late = walked(both, q, grads)
    single = dense.GaLore(rank=2, update_proj_gap=2).build([alone])
    assert torch.equal(late, walked(single, alone, grads))


def test_zero_gradients_leave_a_parameter_where_it_is():
    p = start((4, 3))
    walked(galore(p, update_proj_gap=1), p, [torch.zeros(4, 3, dtype=torch.float64)] * 4)
    assert torch.equal(p, torch.zeros_like(p))


def test_a_gradient_that_is_not_finite_is_a_divergence():
    p = nn.Parameter(torch.ones(4, 3))
    with pytest.raises(Diverged, match="no eigenvectors of a 3 × 3 matrix of gradients"):
        walked(galore(p, weight_decay=0.5), p, [torch.full((4, 3), torch.inf)])
    assert torch.equal(p, torch.ones(4, 3))  # not even shrunk


@pytest.mark.parametrize(
    "fields", [{"rank": 0}, {"update_proj_gap": 0}, {"betas": (1.0, 0.9)}, {"scale": 0.0}]
)
def test_what_makes_no_sense_is_refused(fields):
    with pytest.raises(ValidationError):
        dense.GaLore(**fields)
