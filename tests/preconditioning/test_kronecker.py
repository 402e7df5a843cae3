"""A step is what the formulas of `Kronecker` say, against dense matrices and loops by hand."""

import pytest
import torch
from torch import Generator, nn

from sketchbench.linalg import symmetric_power
from sketchbench.preconditioning import Kronecker

ULP = torch.finfo(torch.float64).eps
RIDGE = 1e-12  # of the factors in conftest


def gradients(count, *shape):
    rng = Generator().manual_seed(7)
    return list(torch.randn(count, *shape, generator=rng, dtype=torch.float64))


def updates(optimizer, p, grads):
    """Return what each step takes from the parameter, put back to 0 before it, at rate 1."""
    found = []
    for grad in grads:
        p.data.zero_()
        p.grad = grad.clone()
        optimizer.step()
        found.append(-p.detach())
    return found


def one(factor, *shape, **options):
    p = nn.Parameter(torch.zeros(shape, dtype=torch.float64))
    return p, Kronecker([p], factor, lr=1.0, **options)


def dense(factors, gradient, exponent):
    """Return the product of every axis's power with a gradient, as one Kronecker product."""
    product = torch.ones(1, 1, dtype=torch.float64)
    for factor in factors:
        product = torch.kron(product, symmetric_power(factor, exponent, RIDGE))
    return (product @ gradient.flatten()).reshape(gradient.shape)


def second(gradient, axis):
    rows = gradient.movedim(axis, 0).flatten(1)
    return rows @ rows.T


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (2, 3, 2)])
def test_an_update_is_the_kronecker_product_of_its_factors_powers(exact, shape):
    grads = gradients(12, *shape)
    p, optimizer = one(exact(beta2=0.9), *shape, merge_dims=0)
    found = updates(optimizer, p, grads)[-1]
    factors = [
        sum(0.9**age * second(g, axis) for age, g in enumerate(reversed(grads)))
        for axis in range(len(shape))
    ]
    expected = dense(factors, grads[-1], -0.5 / len(shape))
    condition = max(float(torch.linalg.cond(factor)) for factor in factors)
    assert (found - expected).norm() <= 100 * ULP * condition * expected.norm()


def test_dimensions_are_merged_before_they_are_preconditioned(exact):
    grads = gradients(3, 4, 3, 2)
    p, optimizer = one(exact(), 4, 3, 2)
    q, flat = one(exact(), 4, 6)
    ours, theirs = updates(optimizer, p, grads), updates(flat, q, [g.flatten(1) for g in grads])
    assert all(torch.equal(a.flatten(1), b) for a, b in zip(ours, theirs, strict=True))


def test_blocks_are_matrices_of_their_own(exact):
    grads = gradients(3, 5, 7)
    p, optimizer = one(exact(), 5, 7, block_size=4)
    found = updates(optimizer, p, grads)
    for rows in (slice(0, 4), slice(4, 5)):
        for columns in (slice(0, 4), slice(4, 7)):
            pieces = [g[rows, columns] for g in grads]
            for whole, piece in zip(found, _by_hand(pieces), strict=True):
                torch.testing.assert_close(whole[rows, columns], piece, rtol=1e-9, atol=1e-12)


def _by_hand(pieces):
    left, right, found = 0, 0, []
    for g in pieces:
        left, right = left + second(g, 0), right + second(g, 1)
        found.append(dense([left, right], g, -1 / 4))
    return found


def test_vectors_numbers_and_large_tensors_take_the_graft(exact):
    for shape, options in (((5,), {}), ((), {}), ((4, 3), {"max_dim": 3}), ((1, 5, 1), {})):
        factor = exact()
        p, optimizer = one(factor, *shape, **options)
        grad = gradients(1, *shape)[0]
        assert torch.equal(updates(optimizer, p, [grad])[0], grad)
        assert factor.absorbed == []
        assert set(optimizer.state[p]) == {"step"}


def test_a_graft_counts_steps_from_one(exact):
    grads = gradients(3, 5)
    p, optimizer = one(exact(), 5, graft="adam", graft_beta2=0.9)
    q = nn.Parameter(torch.zeros(5, dtype=torch.float64))
    adam = torch.optim.Adam([q], lr=1.0, betas=(0.0, 0.9))
    ours, theirs = updates(optimizer, p, grads), updates(adam, q, grads)
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(ours, theirs, strict=True))


def test_the_graft_gives_the_length_and_the_factors_the_direction(exact):
    grads = gradients(3, 4, 3)
    p, plain = one(exact(), 4, 3)
    q, optimizer = one(exact(), 4, 3, graft="adam", graft_beta2=0.9)
    r, vector = one(exact(), 12, graft="adam", graft_beta2=0.9)
    bare = updates(plain, p, grads)
    lengths = updates(vector, r, [g.flatten() for g in grads])
    for found, direction, length in zip(updates(optimizer, q, grads), bare, lengths, strict=True):
        expected = direction * length.norm() / direction.norm()
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("graft", ["none", "sgd"])
def test_before_start_step_the_graft_is_all_and_factors_learn(exact, graft):
    grads = gradients(3, 4, 3)
    p, optimizer = one(exact(), 4, 3, start_step=2, graft=graft)
    q, always = one(exact(), 4, 3, graft=graft)
    found, expected = updates(optimizer, p, grads), updates(always, q, grads)
    assert torch.equal(found[0], grads[0])
    assert torch.equal(found[1], grads[1])
    assert torch.equal(found[2], expected[2])


def test_skipped_gradients_are_passed_over(exact):
    grads = gradients(7, 4, 3)
    p, optimizer = one(exact(beta2=0.9), 4, 3, update_every=3)
    q, learning = one(exact(beta2=0.9), 4, 3)
    updates(optimizer, p, grads)
    updates(learning, q, [grads[0], grads[3], grads[6]])
    for key in ("0.0.factor", "0.1.factor", "0.1.power"):
        assert torch.equal(optimizer.state[p][key], learning.state[q][key])


def test_skipped_gradients_are_averaged_since_the_last_update(exact):
    grads = gradients(7, 4, 3)
    p, optimizer = one(exact(beta2=0.9), 4, 3, update_every=3, skipped="averaged")
    q, learning = one(exact(beta2=0.9), 4, 3)
    updates(optimizer, p, grads)
    means = [grads[0], sum(grads[1:4]) / 3, sum(grads[4:7]) / 3]
    updates(learning, q, means)
    for key in ("0.0.factor", "0.1.factor"):
        torch.testing.assert_close(optimizer.state[p][key], learning.state[q][key])
    assert not optimizer.state[p]["average"].any()


def test_a_mean_is_of_the_gradients_since_the_last_update_whatever_the_interval(exact):
    grads = gradients(5, 4, 3)
    p, optimizer = one(exact(beta2=0.9), 4, 3, update_every=4, skipped="averaged")
    q, learning = one(exact(beta2=0.9), 4, 3)
    updates(optimizer, p, grads[:2])
    optimizer.param_groups[0]["update_every"] = (
        2  # the next update is after two gradients, not four
    )
    updates(optimizer, p, grads[2:3])
    updates(learning, q, [grads[0], sum(grads[1:3]) / 2])
    for key in ("0.0.factor", "0.1.factor"):
        torch.testing.assert_close(optimizer.state[p][key], learning.state[q][key])
    assert int(optimizer.state[p]["summed"]) == 0


def test_observed_gradients_wait_for_their_powers(exact):
    grads = gradients(6, 4, 3)
    p, optimizer = one(exact(beta2=0.9), 4, 3, update_every=3, skipped="observed")
    q, learning = one(exact(beta2=0.9), 4, 3)
    updates(optimizer, p, grads[:4])
    updates(learning, q, grads[:4])
    powers = learning.state[q]["0.0.power"].clone()
    updates(optimizer, p, grads[4:])
    updates(learning, q, grads[4:])
    assert torch.equal(optimizer.state[p]["0.0.factor"], learning.state[q]["0.0.factor"])
    assert torch.equal(optimizer.state[p]["0.0.power"], powers)


def test_steps_between_updates_use_the_old_powers(exact):
    grads = gradients(2, 4, 3)
    p, optimizer = one(exact(), 4, 3, update_every=2)
    second_step = updates(optimizer, p, grads)[1]
    expected = dense([second(grads[0], 0), second(grads[0], 1)], grads[1], -1 / 4)
    # Of the rank-3 left factor the ridge is all there is in one direction: (1e-12)^(-1/4).
    condition = float(torch.linalg.cond(second(grads[0], 1)))
    assert (second_step - expected).norm() <= 1e3 * ULP * condition / RIDGE**0.25 * expected.norm()


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_and_decay_are_those_of_the_formula(exact, nesterov):
    grads = gradients(4, 4, 3)
    p, bare = one(exact(), 4, 3)
    each = updates(bare, p, grads)
    q = nn.Parameter(torch.ones(4, 3, dtype=torch.float64))
    options = {"momentum": 0.9, "nesterov": nesterov, "weight_decay": 0.1}
    optimizer = Kronecker([q], exact(), lr=0.5, **options)
    weights, trace = q.detach().clone(), 0
    for grad, update in zip(grads, each, strict=True):
        q.grad = grad
        optimizer.step()
        trace = 0.9 * trace + update
        step = update + 0.9 * trace if nesterov else trace
        weights = weights - 0.5 * 0.1 * weights - 0.5 * step
    torch.testing.assert_close(q.detach(), weights, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"graft": "adafactor", "momentum": 0.9}])
@pytest.mark.parametrize("skipped", ["exact", "averaged"])
def test_maximize_is_descent_along_the_negated_gradient(exact, options, skipped):
    grads = gradients(4, 4, 3)
    options = {**options, "update_every": 2, "skipped": skipped}
    p, up = one(exact(), 4, 3, maximize=True, **options)
    q, down = one(exact(), 4, 3, **options)
    assert all(
        torch.equal(a, b)
        for a, b in zip(updates(up, p, grads), updates(down, q, [-g for g in grads]), strict=True)
    )


def test_a_closure_is_called_once_with_gradients_on_and_its_loss_returned(exact, make):
    (p,) = make((4, 3))
    optimizer = Kronecker([p], exact(), lr=0.1)
    calls = []

    def closure():
        calls.append(torch.is_grad_enabled())
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    before = p.detach().square().sum()
    assert optimizer.step(closure) == before
    assert calls == [True]
    assert p.detach().square().sum() < before


def test_groups_have_options_of_their_own(exact, make):
    p, q, r = make((4, 3), (4, 3), (4, 3))
    groups = [{"params": [p]}, {"params": [q], "lr": 0.0}, {"params": [r], "graft": "sgd"}]
    optimizer = Kronecker(groups, exact(), lr=0.1)
    before = [each.detach().clone() for each in (p, q, r)]
    for each in (p, q, r):
        each.grad = torch.ones_like(each)
    optimizer.step()
    moved = [float((old - new.detach()).norm()) for old, new in zip(before, (p, q, r), strict=True)]
    assert moved[0] > 0
    assert moved[1] == 0
    assert moved[2] == pytest.approx(0.1 * 12**0.5)


def test_parameters_count_their_own_steps(exact, make, train):
    params, others = make((4, 3), (4, 3)), make((4, 3), (4, 3))
    optimizer = Kronecker(params, exact(), lr=0.1, update_every=3)
    train(optimizer, range(2), idle=(1,))
    train(optimizer, range(2, 6))
    alone = Kronecker(others[1:], exact(), lr=0.1, update_every=3)
    for seed in range(2, 6):
        rng = Generator().manual_seed(seed)
        drawn = [torch.randn(4, 3, generator=rng, dtype=torch.float64) for _ in range(2)]
        others[1].grad = drawn[1]
        alone.step()
    assert int(optimizer.state[params[0]]["step"]) == 6
    assert int(optimizer.state[params[1]]["step"]) == 4
    torch.testing.assert_close(params[1], others[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1}, "'lr' must be at least 0; got -1"),
        ({"update_every": 0}, "'update_every' must be a whole number from 1; got 0"),
        ({"graft": "adamw"}, "'graft' must be one of none, sgd, rmsprop, adam, adafactor"),
        ({"skipped": "some"}, "'skipped' must be exact, averaged or observed; got 'some'"),
        ({"nesterov": True}, "nesterov needs a momentum above 0"),
        ({"block_size": 0}, "'block_size' must be None, or from 1; got 0"),
    ],
)
def test_options_out_of_range_are_refused(exact, make, options, message):
    with pytest.raises(ValueError, match=message):
        Kronecker(make((4, 3)), exact(), **options)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (3, 0, 2), (0,)])
@pytest.mark.parametrize("graft", ["none", "sgd", "rmsprop", "adam", "adafactor"])
def test_parameters_without_entries_are_stepped(exact, shape, graft):
    p, optimizer = one(exact(), *shape, graft=graft, momentum=0.9)
    updates(optimizer, p, gradients(3, *shape))
    assert all(value.isfinite().all() for value in optimizer.state[p].values())


def test_a_layout_of_memory_other_than_rows_changes_nothing(exact, make):
    p, q = make((4, 3, 2, 2)), make((4, 3, 2, 2))
    last = nn.Parameter(p[0].detach().to(memory_format=torch.channels_last))
    ours, theirs = Kronecker([last], exact(), lr=0.1), Kronecker(q, exact(), lr=0.1)
    for grad in gradients(3, 4, 3, 2, 2):
        last.grad, q[0].grad = grad.to(memory_format=torch.channels_last), grad
        ours.step()
        theirs.step()
    torch.testing.assert_close(last.detach(), q[0].detach(), rtol=1e-9, atol=1e-9)
