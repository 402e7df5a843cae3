"""S-Shampoo's memory: what its state takes, what it declares, and the rank that breaks even."""

import pytest
import sketchbench_dense as dense
import sketchbench_frequent_directions as fd
import torch
from torch import Generator, nn

from sketchbench.measure import state_bytes

CPU = torch.device("cpu")
BARE = {"graft": "none", "momentum": 0.0, "nesterov": False}


@pytest.mark.parametrize(
    ("shape", "rank", "most"), [((1024, 1024), 64, 0.53e6), ((4096, 1024), 256, 5.25e6)]
)
def test_sketches_take_what_the_paper_says(shape, rank, most):
    p = nn.Parameter(torch.empty(shape, device="meta"))
    declared = fd.SShampoo(rank=rank, **BARE).state_bytes([p])
    assert declared == {"sketch": 4 * (sum(shape) * rank + 2 * (rank + 1))}
    assert sum(declared.values()) <= most
    if shape == (1024, 1024):
        assert sum(dense.Adam().state_bytes([p]).values()) == 8 * 2**20


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"rank": (3, 2), "merge_dims": 1024},
        {"block_size": 5, "graft": "rmsprop", "update_every": 3, "skipped": "averaged"},
        {**BARE, "max_dim": 8},
    ],
)
def test_the_state_takes_what_is_declared(options):
    recipe = fd.SShampoo(**{"rank": 4, **options})
    params = [
        nn.Parameter(torch.randn(s, generator=Generator().manual_seed(0)))
        for s in ((12, 7), (7,), (4, 3, 2, 2), (8, 8))
    ]
    optimizer = recipe.build(params)
    for p in params:
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert recipe.state_bytes(params) == state_bytes(optimizer, CPU)


@pytest.mark.parametrize(
    ("shape", "options", "rank"),
    [
        ((1024, 1024), {}, 511),  # mn/(m + n) = 512, less the λ and ρ that a sketch has besides
        ((4096, 1024), {}, 818),
        ((64, 32, 3, 3), {}, 52),  # as (64, 288)
        ((7,), {}, None),
        ((64, 64), {"skipped": "averaged", "update_every": 2}, 0),
        ((64, 64, 64), {}, None),  # three whole factors take less than a copy
    ],
)
def test_the_break_even_rank(shape, options, rank):
    assert fd.SShampoo(**options).break_even(shape) == rank
