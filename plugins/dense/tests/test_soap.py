"""SOAP: its laws, the cases in which it is Adam, and its step in dense matrices."""

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

test_soap = laws(dense.SOAP(precondition_frequency=3))
test_soap_with_a_new_basis_each_step = laws(dense.SOAP(precondition_frequency=1))
test_soap_of_merged_axes = laws(dense.SOAP(precondition_frequency=2, merge_dims=12))
test_soap_of_short_axes = laws(
    dense.SOAP(precondition_frequency=2, max_precond_dim=4, merge_dims=4, shampoo_beta=0.9)
)
test_soap_without_a_basis = laws(dense.SOAP(max_precond_dim=0, weight_decay=0.0))


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


def adam(p, lr=1e-2, betas=(0.9, 0.95), eps=1e-8):
    return torch.optim.Adam([p], lr=lr, betas=betas, eps=eps)


def soap(p, **fields):
    return dense.SOAP(**{"lr": 1e-2, "betas": (0.9, 0.95), "weight_decay": 0.0} | fields).build([p])


@pytest.mark.parametrize(
    ("shape", "fields"),
    [
        ((5, 3), {"max_precond_dim": 1}),
        ((5, 3), {"max_precond_dim": 2}),
        ((5,), {}),
        ((), {}),
        ((1, 1), {}),
    ],
)
def test_in_the_standard_basis_it_is_adam(shape, fields):
    p, q = start(shape), start(shape)
    grads = gradients(shape, 12)
    torch.testing.assert_close(walked(soap(p, **fields), p, grads), walked(adam(q), q, grads))


def test_its_first_step_is_adams():
    p, q = start((5, 3)), start((5, 3))
    grads = gradients((5, 3), 1)
    torch.testing.assert_close(walked(soap(p), p, grads), walked(adam(q), q, grads))


@pytest.mark.parametrize("frequency", [1, 3])
def test_of_gradients_with_diagonal_factors_it_is_adam(frequency):
    # one entry a row and a column, in a fixed pattern: every factor is diagonal, its eigenvectors
    # are a signed permutation, and Adam commutes with that
    rng = Generator().manual_seed(1)
    pattern = torch.eye(5, dtype=torch.float64)[torch.randperm(5, generator=rng)][:, :4]
    scale = torch.tensor([4.0, 1.0, 0.3, 0.1, 2.0], dtype=torch.float64)[:, None]
    grads = [pattern * scale * grad for grad in gradients((5, 4), 20)]
    p, q = start((5, 4)), start((5, 4))
    ours = walked(soap(p, precondition_frequency=frequency), p, grads)
    theirs = walked(adam(q), q, grads[1:])  # whose moments don't see the first gradient either
    torch.testing.assert_close(ours[1:] - ours[0], theirs)


def test_a_rotated_problem_takes_rotated_steps():
    # with full bases W → UᵀWV commutes with every step but the first, which is Adam's
    grads = gradients((4, 3), 12)
    left = torch.linalg.qr(gradients((4, 4), 1, seed=5)[0]).Q
    right = torch.linalg.qr(gradients((3, 3), 1, seed=6)[0]).Q
    p, q = start((4, 3)), start((4, 3))
    plain = walked(soap(p, precondition_frequency=1), p, grads)
    turned = walked(soap(q, precondition_frequency=1), q, [left @ g @ right for g in grads])
    torch.testing.assert_close(left @ (plain[1:] - plain[0]) @ right, turned[1:] - turned[0])


def test_its_steps_are_those_of_dense_matrices():
    # Algorithm 3 of the paper with f = 2, in Kronecker products over row-major vectors
    betas, beta, lr, eps = (0.9, 0.95), 0.8, 1e-2, 1e-8
    grads = gradients((3, 2), 7)
    p = start((3, 2))
    path = walked(soap(p, betas=betas, shampoo_beta=beta, precondition_frequency=2), p, grads)
    left, right = (1 - beta) * grads[0] @ grads[0].mT, (1 - beta) * grads[0].mT @ grads[0]
    bases = [torch.linalg.eigh(factor).eigenvectors.flip(1) for factor in (left, right)]
    mean, square, w = torch.zeros(6).double(), torch.zeros(6).double(), path[0].flatten()
    for step, grad in enumerate(grads[1:], 1):
        q = torch.kron(*bases)
        mean = betas[0] * mean + (1 - betas[0]) * grad.flatten()
        square = betas[1] * square + (1 - betas[1]) * (q.mT @ grad.flatten()) ** 2
        root = (square / (1 - betas[1] ** step)).sqrt() + eps
        w = w - lr * q @ ((q.mT @ mean) / (1 - betas[0] ** step) / root)
        torch.testing.assert_close(path[step].flatten(), w)
        left = beta * left + (1 - beta) * grad @ grad.mT
        right = beta * right + (1 - beta) * grad.mT @ grad
        if step % 2 == 0:
            orders = []
            for i, factor in enumerate((left, right)):
                orders.append((bases[i].mT @ factor @ bases[i]).diag().argsort(descending=True))
                bases[i] = torch.linalg.qr(factor @ bases[i][:, orders[i]]).Q
            square = square.reshape(3, 2)[orders[0]][:, orders[1]].flatten()


def test_its_basis_finds_the_eigenvectors_of_the_factors():
    # gradients A^½ Z with the spectrum 4^-i: power iteration converges as 4^-t
    rng = Generator().manual_seed(2)
    axes = torch.linalg.qr(torch.randn(6, 6, generator=rng, dtype=torch.float64)).Q
    half = axes * 2.0 ** -torch.arange(6.0, dtype=torch.float64)
    p = start((6, 50))
    optimizer = soap(p, precondition_frequency=1, shampoo_beta=0.999, max_precond_dim=6)
    walked(optimizer, p, [half @ g for g in gradients((6, 50), 60, seed=3)])
    (factor,), (basis,) = optimizer.state[p]["factors"], optimizer.state[p]["bases"]
    torch.testing.assert_close(basis.mT @ basis, torch.eye(6, dtype=torch.float64))
    turned = basis.mT @ factor @ basis
    scale = turned.diag().sqrt()
    off = (turned / scale / scale[:, None]).fill_diagonal_(0).abs().max()
    assert off < 0.01
    assert (turned.diag().diff() < 0).all()


@pytest.mark.parametrize(
    ("shape", "fields", "numbers"),
    [
        ((7, 5), {}, 2 * (49 + 25)),
        ((7, 5), {"max_precond_dim": 5}, 2 * 25),
        ((7, 5), {"merge_dims": 35}, 2 * (49 + 25)),
        ((8, 4, 3, 3), {}, 2 * (64 + 16 + 9 + 9)),
        ((8, 4, 3, 3), {"merge_dims": 36}, 2 * (32**2 + 81)),
        ((8, 4, 3, 3), {"merge_dims": 36, "max_precond_dim": 9}, 2 * 81),
        ((7, 1), {}, 0),
        ((7,), {}, 0),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_its_bytes_are_two_copies_and_two_squares_an_axis(shape, fields, numbers, dtype):
    p = start(shape, dtype)
    optimizer = soap(p, precondition_frequency=1, **fields)
    walked(optimizer, p, gradients(shape, 2, dtype=dtype))
    size = p.element_size()
    expected = {
        "momentum": p.numel() * size,
        "second_moment": p.numel() * size,
        "preconditioner": numbers * max(size, 4),
    }
    assert state_bytes(optimizer, CPU) == {k: v for k, v in expected.items() if v}
    assert dense.SOAP(**fields).state_bytes([p]) == expected


def test_bfloat16_goes_on_from_its_state_to_the_bit():
    grads = gradients((6, 4), 9, dtype=torch.bfloat16)
    p = start((6, 4), torch.bfloat16)
    optimizer = soap(p, precondition_frequency=2)
    walked(optimizer, p, grads[:4])
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    q = nn.Parameter(p.detach().clone())
    resumed = soap(q, precondition_frequency=2)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(walked(optimizer, p, grads[4:]), walked(resumed, q, grads[4:]))


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float64), (torch.float64, torch.float32)])
def test_a_state_goes_on_in_another_precision(dtypes):
    p, q = start((6, 4), dtypes[0]), start((6, 4), dtypes[1])
    optimizer, resumed = soap(p, precondition_frequency=2), soap(q, precondition_frequency=2)
    walked(optimizer, p, gradients((6, 4), 3, dtype=dtypes[0]))
    resumed.load_state_dict(optimizer.state_dict())
    assert {factor.dtype for factor in resumed.state[q]["factors"]} == {dtypes[1]}
    q.data.copy_(p)
    grads = gradients((6, 4), 3, seed=1)
    ours = walked(optimizer, p, [grad.to(dtypes[0]) for grad in grads])
    theirs = walked(resumed, q, [grad.to(dtypes[1]) for grad in grads])
    # steps of 1e-2 that float32 rounds to 1e-9, and divisions by small moments amplify (to 9e-9)
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (3, 0, 2), (0,)])
def test_parameters_without_entries_are_stepped(shape):
    p = start(shape)
    optimizer = soap(p, precondition_frequency=1)
    walked(optimizer, p, gradients(shape, 3))
    assert optimizer.state[p]["factors"] == []


def test_a_loaded_state_is_a_copy():
    grads = gradients((6, 4), 6)
    p, q = start((6, 4)), start((6, 4))
    optimizer, resumed = soap(p), soap(q)
    walked(optimizer, p, grads[:2])
    resumed.load_state_dict(optimizer.state_dict())
    before = [factor.clone() for factor in optimizer.state[p]["factors"]]
    walked(resumed, q, grads[2:])
    assert all(map(torch.equal, before, optimizer.state[p]["factors"]))


def test_a_copy_steps_as_the_original_does():
    p = start((6, 4))
    optimizer = soap(p)
    walked(optimizer, p, gradients((6, 4), 3))
    again = copy.deepcopy(optimizer)
    (q,) = again.param_groups[0]["params"]
    grads = gradients((6, 4), 3, seed=1)
    assert torch.equal(walked(optimizer, p, grads), walked(again, q, grads))


def test_a_parameter_that_gets_its_gradient_late_starts_then():
    p, q, alone = start((4, 3)), start((3, 3)), start((3, 3))
    both = dense.SOAP(precondition_frequency=2).build([p, q])
    walked(both, p, gradients((4, 3), 3))
    grads = gradients((3, 3), 5)
    p.grad = None
    late = walked(both, q, grads)
    single = dense.SOAP(precondition_frequency=2).build([alone])
    assert torch.equal(late, walked(single, alone, grads))


def test_zero_gradients_leave_a_parameter_where_it_is():
    p = start((4, 3))
    walked(soap(p, precondition_frequency=1), p, [torch.zeros(4, 3, dtype=torch.float64)] * 4)
    assert torch.equal(p, torch.zeros_like(p))


def test_weights_shrink_by_the_decay():
    p = nn.Parameter(torch.ones(4, 3))
    optimizer = dense.SOAP(lr=0.1, weight_decay=0.5).build([p])
    walked(optimizer, p, [torch.zeros(4, 3)] * 2)
    torch.testing.assert_close(p.detach(), torch.full((4, 3), 0.95**2))


def test_a_first_gradient_that_is_not_finite_is_a_divergence():
    p = start((4, 3))
    optimizer = soap(p)
    with pytest.raises(Diverged, match="no eigenvectors of a 4 × 4 matrix of gradients"):
        walked(optimizer, p, [torch.full((4, 3), torch.nan, dtype=torch.float64)])
    assert torch.equal(p, torch.zeros_like(p))
    assert not optimizer.state[p]


def test_the_closure_is_called_once_with_gradients():
    p = nn.Parameter(torch.ones(4, 3))
    optimizer = soap(p)

    def closure():
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 12
    assert (p < 1).all()


@pytest.mark.parametrize(
    "fields", [{"betas": (0.9, 1.0)}, {"shampoo_beta": 1.0}, {"precondition_frequency": 0}]
)
def test_what_makes_no_sense_is_refused(fields):
    with pytest.raises(ValidationError):
        dense.SOAP(**fields)
