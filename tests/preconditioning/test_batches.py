"""Equal shapes share a call, and it gives each what it would have got alone."""

import copy

import pytest
import torch
from torch import nn

from sketchbench.preconditioning import Kronecker, batches


@pytest.mark.parametrize(
    "options",
    [{}, {"block_size": 3}, {"update_every": 2, "skipped": "averaged", "graft": "adam"}],
)
def test_batching_changes_rounding_at_most(exact, make, train, monkeypatch, options):
    shapes = ((6, 4), (6, 4), (4, 6), (5, 5), (6, 4), (6, 2, 2))  # the last of another order
    options = {"merge_dims": 0, **options}
    together = train(Kronecker(make(*shapes), exact(0.9), lr=0.1, **options), range(4))
    monkeypatch.setattr(batches, "LARGEST_BATCH", 1)
    alone = train(Kronecker(make(*shapes), exact(0.9), lr=0.1, **options), range(4))
    for p, q in zip(together, alone, strict=True):
        # One rank-deficient factor: rounding is amplified by the ridge, (1e-12)^(-1/4) = 1e3.
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-10)


def test_axes_of_one_shape_are_absorbed_in_one_call(exact, make, train):
    factor = exact()
    train(Kronecker(make((6, 4), (4, 6), (6, 4), (5, 5), (7,)), factor), range(1))
    assert sorted(factor.absorbed) == [(2, 5, 5), (3, 4, 6), (3, 6, 4)]


def test_blocks_are_absorbed_in_one_call(exact, make, train):
    factor = exact()
    train(Kronecker(make((6, 9)), factor, block_size=3), range(1))
    assert factor.absorbed == [(12, 3, 3)]


def test_a_batch_is_limited(exact, make, train, monkeypatch):
    monkeypatch.setattr(batches, "LARGEST_BATCH", 60)
    factor = exact()
    train(Kronecker(make((6, 4), (6, 4), (6, 4)), factor), range(1))
    assert sorted(factor.absorbed) == [(1, 4, 6), (1, 6, 4), (2, 4, 6), (2, 6, 4)]


def test_parameters_at_other_phases_dont_wait_for_one_another(exact, make, train):
    factor = exact()
    optimizer = Kronecker(make((6, 4), (6, 4)), factor, update_every=2)
    train(optimizer, range(1), idle=(1,))
    factor.absorbed.clear()
    train(optimizer, range(1))  # the second's first step
    assert sorted(factor.absorbed) == [(1, 4, 6), (1, 6, 4)]


def test_precisions_arent_mixed(exact):
    params = [nn.Parameter(torch.ones(3, 3, dtype=d)) for d in (torch.float32, torch.float64)]
    factor = exact()
    optimizer = Kronecker(params, factor)
    for p in params:
        p.grad = torch.eye(3, dtype=p.dtype)
    optimizer.step()
    assert factor.absorbed == [(2, 3, 3), (2, 3, 3)]


class Diagonal:
    """Sums of squares of rows, with a count before them; `returned` replaces what it returns."""

    parts = {"count": "rest", "sums": "preconditioner"}
    returned = None

    def empty(self, batch, sizes, axis, *, device, dtype):
        counts = torch.zeros(batch, dtype=torch.int64, device=device)
        return {
            "count": counts,
            "sums": torch.zeros(batch, sizes[axis], device=device, dtype=dtype),
        }

    def absorb(self, kept, increment):
        if self.returned:
            return self.returned
        return {"count": kept["count"] + 1, "sums": kept["sums"] + increment.square().sum(-1)}

    def refresh(self, kept, exponent):
        return {}

    def apply(self, kept, x, exponent):
        return (kept["sums"] + 1e-12).pow(exponent).unsqueeze(-1) * x


def test_factors_see_gradients_in_the_precision_of_the_state_whatever_they_keep():
    p = nn.Parameter(torch.zeros(2, 2, dtype=torch.bfloat16))
    optimizer = Kronecker([p], Diagonal())
    p.grad = torch.tensor([[0.5, 0.25], [0.75, 0.0]], dtype=torch.bfloat16)
    optimizer.step()
    state = optimizer.state[p]
    assert state["0.0.sums"].tolist() == [[0.3125, 0.5625]]
    assert state["0.0.sums"].dtype == torch.float32
    assert state["0.0.count"].tolist() == [1]


class Trace(Diagonal):
    """One number an axis: its shape doesn't tell d."""

    parts = {"mean": "preconditioner"}

    def empty(self, batch, sizes, axis, *, device, dtype):
        return {"mean": torch.zeros(batch, device=device, dtype=dtype)}

    def absorb(self, kept, increment):
        return {"mean": kept["mean"] + increment.square().mean((-2, -1))}

    def apply(self, kept, x, exponent):
        return kept["mean"][:, None, None].pow(exponent) * x


class Nothing(Diagonal):
    """Nothing at all: the identity."""

    parts = {}

    def empty(self, batch, sizes, axis, *, device, dtype):
        return {}

    def absorb(self, kept, increment):
        return {}

    def apply(self, kept, x, exponent):
        return x


@pytest.mark.parametrize("factor", [Trace, Nothing, Diagonal])
def test_axes_of_other_lengths_are_batched_apart(factor, make, train, monkeypatch):
    shapes = ((6, 4), (8, 4), (4, 8), (6, 4))
    together = train(Kronecker(make(*shapes), factor(), lr=0.1), range(3))
    monkeypatch.setattr(batches, "LARGEST_BATCH", 1)
    alone = train(Kronecker(make(*shapes), factor(), lr=0.1), range(3))
    for p, q in zip(together, alone, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"sums": torch.zeros(1, 1)}, r"it returned 'sums' as \(1, 1\); it must be \(1, 6\)"),
        ({"sum": torch.zeros(1, 6)}, r"it returned 'sum'; `empty` made \['count', 'sums'\]"),
    ],
)
def test_what_a_factor_returns_has_the_shapes_that_it_made(returned, message, make, train):
    factor = Diagonal()
    factor.returned = returned
    with pytest.raises(ValueError, match=rf"optimizer: factor Diagonal, axis of 6: {message}"):
        train(Kronecker(make((6, 4)), factor), range(1))


def test_a_factor_that_overflows_raises_and_leaves_itself_the_weights_and_the_step(make, train):
    (p,) = make((4, 3))
    optimizer = Kronecker([p], Diagonal())
    for _ in range(4):
        p.grad = torch.full_like(
            p, 3e153
        )  # a column's sum of squares is 3.6e307, of at most 1.8e308
        optimizer.step()
    weights, state = p.detach().clone(), copy.deepcopy(optimizer.state[p])
    with pytest.raises(FloatingPointError, match="factor Diagonal, axis of 3: what it would keep"):
        optimizer.step()
    assert torch.equal(p, weights)
    for key in ("step", "0.1.sums"):
        assert torch.equal(optimizer.state[p][key], state[key])
    assert all(value.isfinite().all() for value in optimizer.state[p].values())


@pytest.mark.parametrize("name", ["a.b", ""])
def test_parts_have_names_without_dots(name, make):
    factor = Nothing()
    factor.parts = {name: "preconditioner"}
    with pytest.raises(ValueError, match="a factor's parts have names without dots; got"):
        Kronecker(make((6, 4)), factor)
