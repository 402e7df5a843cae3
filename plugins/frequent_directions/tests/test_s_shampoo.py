"""S-Shampoo: what its sketches take, what they equal at full rank, and what each option does."""

import pytest
import sketchbench_dense as dense
import sketchbench_frequent_directions as fd
import torch
from pydantic import ValidationError
from torch import Generator, nn

from sketchbench.linalg import symmetric_power

CPU = torch.device("cpu")
ULP = torch.finfo(torch.float64).eps
BARE = {"graft": "none", "momentum": 0.0, "nesterov": False}


def draw(*shape, seed=0):
    return torch.randn(shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def run(recipe, gradients):
    """Return each update at rate 1, from weights of 0, and the optimizer's state."""
    p = nn.Parameter(torch.zeros_like(gradients[0]))
    optimizer, found = recipe.build([p]), []
    for gradient in gradients:
        p.data.zero_()
        p.grad = gradient
        optimizer.step()
        found.append(-p.detach())
    return found, optimizer.state[p]


def s_shampoo(**options):
    return fd.SShampoo(**{"lr": 1.0, "beta2": 0.9, "solver": "svd", **BARE, **options})


# ---------------------------------------------------------------- what escaped


def test_the_escaped_share_is_that_of_every_axis_of_every_block():
    weight, bias = nn.Parameter(torch.zeros(6, 4).double()), nn.Parameter(torch.zeros(4).double())
    optimizer = s_shampoo(rank=1, block_size=3).build([weight, bias])
    assert optimizer.escaped_shares().shape == (0,)  # no step yet
    weight.grad, bias.grad = draw(6, 4), draw(4)
    optimizer.step()
    found, expected = optimizer.escaped_shares(), []
    for rows in (weight.grad[:3], weight.grad[3:]):
        for block in (rows[:, :3], rows[:, 3:]):
            for unfolded in (block, block.T):
                values = torch.linalg.svdvals(unfolded).square()
                escaped = values[1] if len(values) > 1 else torch.tensor(0.0)
                # k = 1: the second eigenvalue is let go of, and taken from the first
                expected.append(float(escaped / values[0]))
    torch.testing.assert_close(found.sort().values, torch.tensor(expected).double().sort().values)


def test_nothing_escapes_a_sketch_that_isnt_full_or_a_factor_that_is_no_sketch():
    gradients = list(draw(5, 6, 4))
    p = nn.Parameter(torch.zeros(6, 4).double())
    for recipe, shares in (
        (s_shampoo(rank=6), [0, 0]),
        (dense.Shampoo(lr=1.0, merge_dims=0, **BARE), []),
    ):
        optimizer = recipe.build([p])
        for gradient in gradients:
            p.grad = gradient
            optimizer.step()
        assert optimizer.escaped_shares().tolist() == shares


# ---------------------------------------------------------------- full rank


@pytest.mark.parametrize("shape", [(6, 6), (4, 7), (3, 4, 2)])
@pytest.mark.parametrize("solver", ["svd", "gram"])
def test_at_full_rank_it_is_shampoo(shape, solver):
    gradients = list(draw(12, *shape))
    ours, sketches = run(s_shampoo(rank=50, merge_dims=0, solver=solver), gradients)
    shampoo = dense.Shampoo(lr=1.0, beta2=0.9, merge_dims=0, **BARE)
    theirs, factors = run(shampoo, gradients)
    worst = 1.0
    for axis in range(len(shape)):
        factor = factors[f"0.{axis}.factor"][0]
        scaled = sketches[f"0.{axis}.vectors"][0] * sketches[f"0.{axis}.roots"]
        size = len(factor)
        # A factorisation is off by a few ulps of the largest eigenvalue, in each of 12 steps; the
        # Gram matrix's roots lose half the digits of small ones: κ ulps of the eigenvalue itself.
        assert (scaled @ scaled.T - factor).norm() <= 12 * 10 * size * ULP * factor.norm()
        assert sketches[f"0.{axis}.tail"] == 0
        worst = max(worst, float(torch.linalg.cond(factor)))
    assert (ours[-1] - theirs[-1]).norm() <= 12 * 10 * 12 * ULP * worst * theirs[-1].norm()


def test_at_full_rank_it_is_shampoo_between_two_updates():
    gradients = list(draw(9, 6, 6))
    ours, _ = run(s_shampoo(rank=6, update_every=4), gradients)
    shampoo = dense.Shampoo(lr=1.0, beta2=0.9, update_every=4, skipped="exact", **BARE)
    theirs, _ = run(shampoo, gradients)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


# ---------------------------------------------------------------- what lies beside the sketch


def kept(state, axis):
    """Return U (d, k), λ (k,) and ρ of one axis."""
    vectors, roots, tail = (state[f"0.{axis}.{n}"][0] for n in ("vectors", "roots", "tail"))
    return vectors, roots.square(), tail


def applied(state, gradient, beside):
    """Return the update with `beside(λ, ρ)` = (on U, beside U) as the eigenvalues, densely."""
    found = gradient
    for axis in range(2):
        vectors, values, tail = kept(state, axis)
        on, off = beside(values, tail)
        complement = torch.eye(len(vectors), dtype=torch.float64) - vectors @ vectors.T
        power = vectors * on**-0.25 @ vectors.T + (off**-0.25 if off else 0.0) * complement
        found = power @ found if axis == 0 else found @ power
    return found


E = 0.1  # epsilon, so large that what it is relative to shows
TAILS = {
    "dynamic": ({}, lambda v, r: (v + r + E * (v[0] + r), r + E * (v[0] + r))),
    "fixed": (
        {"tail": "fixed", "delta": 3.0},
        lambda v, r: (v + 3.0 + E * (v[0] + 3.0), 3.0 + E * (v[0] + 3.0)),
    ),
    "none": ({"tail": "none"}, lambda v, r: (v + E * v[0], 0)),
}


@pytest.mark.parametrize("tail", TAILS)
def test_the_tail_is_what_its_option_says(tail):
    options, beside = TAILS[tail]
    gradients = list(draw(5, 8, 6))
    updates, state = run(s_shampoo(rank=3, epsilon=E, **options), gradients)
    assert kept(state, 0)[2] > 0  # mass did escape
    torch.testing.assert_close(updates[-1], applied(state, gradients[-1], beside))


def test_without_a_tail_no_update_leaves_the_sketches():
    gradients = list(draw(5, 8, 6))
    updates, state = run(s_shampoo(rank=3, tail="none"), gradients)
    left, right = kept(state, 0)[0], kept(state, 1)[0]
    inside = left @ (left.T @ updates[-1] @ right) @ right.T
    torch.testing.assert_close(inside, updates[-1])


@pytest.mark.parametrize(("name", "decay"), [("paper", 0.9), ("tearfree", 0.9**0.5)])
def test_the_tail_decays_as_the_paper_or_as_the_authors_code(name, decay):
    gradients = list(draw(4, 8, 6))
    _, before = run(s_shampoo(rank=3, tail_decay=name), gradients)
    _, after = run(s_shampoo(rank=3, tail_decay=name), [*gradients, 0 * gradients[0]])
    for axis in range(2):  # no mass escapes with a gradient of 0
        torch.testing.assert_close(kept(after, axis)[2], decay * kept(before, axis)[2])
        torch.testing.assert_close(kept(after, axis)[1], 0.9 * kept(before, axis)[1])


def test_epsilon_is_relative_to_the_largest_eigenvalue():
    gradients = list(draw(4, 8, 6))
    small, _ = run(s_shampoo(rank=3, epsilon=0.5), gradients)
    large, _ = run(s_shampoo(rank=3, epsilon=0.5), [2.0**20 * g for g in gradients])
    for a, b in zip(small, large, strict=True):  # GGᵀ grows by c², its power −1/4 twice by 1/c
        torch.testing.assert_close(a, b)


LOW = draw(8, 2) @ draw(2, 6, seed=1)  # of rank 2: sketches of rank 3 lose nothing
FRESH = draw(8, 6, seed=2)


def test_unseen_directions_count_as_the_weakest_seen():
    updates, state = run(s_shampoo(rank=3, update_every=2, epsilon=E), [LOW, FRESH])

    def beside(values, tail):
        ridge, seen = E * values[0], values[values > 1e-9 * values[0]]
        return torch.where(values > 0, values + ridge, 1), seen.min() + ridge

    assert kept(state, 0)[2] <= ULP * kept(state, 0)[1][0]
    torch.testing.assert_close(updates[1], applied(state, FRESH, beside))


def test_without_a_floor_a_gradient_between_updates_loses_what_was_not_seen():
    updates, state = run(s_shampoo(rank=3, update_every=2, tail_floor="none"), [LOW, FRESH])
    floored, _ = run(s_shampoo(rank=3, update_every=2), [LOW, FRESH])
    assert kept(state, 0)[2] == kept(state, 1)[2] == 0  # nothing escapes of what fits
    left = torch.linalg.svd(LOW)[0][:, :2]
    lost = FRESH - left @ (left.T @ FRESH)
    beyond = updates[1] - left @ (left.T @ updates[1])
    assert beyond.norm() <= 1e-9 * updates[1].norm()
    kept_part = floored[1] - left @ (left.T @ floored[1])
    assert kept_part.norm() >= 0.1 * lost.norm() / LOW.norm()


@pytest.mark.parametrize("floor", ["smallest", "none"])
def test_gradients_that_were_absorbed_are_the_same_with_and_without_a_floor(floor):
    updates, _ = run(s_shampoo(rank=3, tail_floor=floor), [LOW])
    left, _, right = torch.linalg.svd(LOW, full_matrices=False)
    # L and R have σ²: GGᵀ's powers −1/4 take σ to 1.
    expected = left[:, :2] @ right[:2]
    assert (updates[0] - expected).norm() <= 1e-6  # ε of the ridge


@pytest.mark.parametrize("floor", ["smallest", "none"])
def test_a_gradient_of_zero_moves_nothing(floor):
    updates, state = run(s_shampoo(rank=3, tail_floor=floor), [0 * LOW, 0 * LOW])
    assert not updates[1].any()
    assert all(value.isfinite().all() for value in state.values())


# ---------------------------------------------------------------- options


def test_each_axis_has_its_rank():
    _, state = run(s_shampoo(rank=(2, 4)), [LOW])
    assert state["0.0.vectors"].shape == (1, 8, 2)
    assert state["0.1.vectors"].shape == (1, 6, 4)


def test_ranks_for_another_order_are_refused():
    p = nn.Parameter(torch.zeros(40, 40, 40))
    with pytest.raises(ValueError, match=r"rank \[2, 4\] is for 2 axes; a block of \(40, 40, 40\)"):
        fd.SShampoo(rank=(2, 4)).build([p])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tail": "fixed"}, "tail 'fixed' and a delta above 0 go together"),
        ({"delta": 1.0}, "tail 'fixed' and a delta above 0 go together"),
        ({"momentum": 0.0}, "nesterov needs a momentum above 0"),
        ({"rank": 0}, "greater than or equal to 1"),
        ({"skipped": "observed"}, "'exact' or 'averaged'"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        fd.SShampoo(**options)


def test_blocks_have_sketches_of_their_own():
    gradients = list(draw(3, 8, 6))
    whole, _ = run(s_shampoo(rank=3, block_size=4), gradients)
    corner, _ = run(s_shampoo(rank=3), [g[:4, :4].contiguous() for g in gradients])
    for found, expected in zip(whole, corner, strict=True):
        torch.testing.assert_close(found[:4, :4], expected)


def test_a_broken_gradient_never_reaches_a_sketch():
    p = nn.Parameter(LOW.clone())
    optimizer = s_shampoo(rank=3, nonfinite="skip").build([p])
    p.grad = FRESH.clone()
    optimizer.step()
    before = {key: value.clone() for key, value in optimizer.state[p].items()}
    p.grad = torch.full_like(p, torch.inf)
    optimizer.step()
    state = optimizer.state[p]
    assert int(state.pop("skipped")) == 1
    assert all(torch.equal(value, before[key]) for key, value in state.items())


@pytest.mark.parametrize("solver", ["svd", "gram", "gram32", "subspace", "lobpcg"])
@pytest.mark.parametrize("nonfinite", ["raise", "skip"])
def test_sums_that_overflow_raise_and_never_reach_weights_or_sketches(solver, nonfinite):
    p = nn.Parameter(torch.zeros(4, 3))
    options = {"beta2": 1.0, "rank": 1, "solver": solver, "nonfinite": nonfinite}
    optimizer = s_shampoo(**options).build([p])
    with pytest.raises(FloatingPointError, match=r"factor SketchedAxis, axis of [34]: what it"):
        for step in range(100):
            before = p.detach().clone()
            p.grad = draw(4, 3, seed=step).float() * 4e18
            optimizer.step()
    assert step > 2
    assert torch.equal(p, before)
    for axis in range(2):
        vectors, values, tail = kept(optimizer.state[p], axis)
        assert vectors.isfinite().all()
        assert values.isfinite().all()
        assert tail.isfinite()


def test_a_rank_of_its_own_is_refused_to_a_group():
    p = nn.Parameter(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="'rank' is one for all factors; no group has its own"):
        fd.SShampoo().build([{"params": [p], "rank": 5}])


def test_the_update_is_the_dense_one_of_the_sketched_factors():
    gradients = list(draw(5, 8, 6))
    updates, state = run(s_shampoo(rank=3), gradients)
    found = gradients[-1]
    for axis in range(2):
        vectors, values, tail = kept(state, axis)
        factor = vectors * values @ vectors.T + tail * torch.eye(len(vectors), dtype=torch.float64)
        power = symmetric_power(factor, -0.25, 1e-7 * float(values[0] + tail))
        found = power @ found if axis == 0 else found @ power
    torch.testing.assert_close(updates[-1], found)
