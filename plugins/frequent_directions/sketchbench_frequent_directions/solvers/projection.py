"""Projection of a stack on a space of right vectors: a sketch that never exceeds C = MMᵀ."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from sketchbench_frequent_directions.solvers import decompositions as dense


def project(stack: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return U (..., d, q), σ and V (..., c, q) of MVVᵀ = UΣVᵀ; `right` is an orthonormal V.

    UΣ²Uᵀ = MVVᵀMᵀ ⪯ MMᵀ whatever V is, and so are its leading pairs; a projection from the left,
    QQᵀMMᵀQQᵀ, isn't. U is orthonormal however near to low rank M is: it is the Q of a QR
    decomposition, rotated.
    """
    vectors, triangle = torch.linalg.qr(stack @ right)
    inner, roots, rotation = dense.svd(triangle)
    return vectors @ inner, roots, right @ rotation.mT


def started(warm: Tensor, extra: int) -> Tensor:
    """Return `warm` (..., d, k) with its columns of zeros filled, and `extra` columns more.

    They are normal draws of a fixed seed: one input gives one output, and no generator moves.
    """
    size, rank = warm.shape[-2:]
    drawn = torch.randn(size, rank + extra, generator=Generator().manual_seed(0))
    drawn = (drawn / size**0.5).to(warm)
    filled = torch.where(warm.any(-2, keepdim=True), warm, drawn[:, :rank])
    return torch.cat([filled, drawn[:, rank:].expand(*warm.shape[:-1], extra)], dim=-1)
