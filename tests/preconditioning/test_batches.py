"""Equal shapes share a call, and it gives each what it would have got alone."""

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
