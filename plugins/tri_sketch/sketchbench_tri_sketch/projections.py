"""Random projections that are drawn from a seed as often as they are needed, never kept."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor

Distribution = Literal["gaussian", "rademacher"]
TILE = 256  # rows drawn at a time: fewer rows are the first rows of more


def seed_from(rng: Generator) -> int:
    """Draw a seed of 32 bits, as many as torch's CPU generator reads."""
    return int(torch.randint(2**32, (), generator=rng))


def mixed(seed: int, step: int) -> int:
    """Return the seed of a step: one to one in `step` for each seed. [MurmurHash3, fmix32]"""
    counter = (seed + step) & 0xFFFFFFFF
    counter = (counter ^ counter >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    counter = (counter ^ counter >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return counter ^ counter >> 16


def drawn(
    seed: int, rows: int, columns: int, like: Tensor, distribution: Distribution = "gaussian"
) -> Tensor:
    """Return independent entries (rows, columns) of mean 0 and variance 1 from a seed.

    Drawn on the CPU in float32, then moved and converted to be like `like`: one seed is one matrix
    on every device, and its first rows are the same however many are drawn.
    """
    height = -(-rows // TILE) * TILE
    matrix = torch.empty(height, columns)
    rng = Generator().manual_seed(seed)
    for tile in matrix.split(TILE):
        if distribution == "gaussian":
            tile.normal_(generator=rng)
        else:
            tile.random_(0, 2, generator=rng).mul_(2).sub_(1)
    return matrix[:rows].to(like)
