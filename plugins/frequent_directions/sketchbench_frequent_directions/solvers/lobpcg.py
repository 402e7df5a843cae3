"""Torch's LOBPCG on the smaller Gram matrix, with the exact (k+1)-th eigenvalue: for comparison."""

from __future__ import annotations

import torch
from torch import Tensor

from sketchbench_frequent_directions.solvers import Leading
from sketchbench_frequent_directions.solvers import decompositions as dense
from sketchbench_frequent_directions.solvers.gram import gram, squared_resolution
from sketchbench_frequent_directions.solvers.projection import project, started

STEPS = 20


def lobpcg(stack: Tensor, rank: int, warm: Tensor) -> Leading:
    """Return nearly leading pairs, and the exact λ_{k+1} of MMᵀ as cutoff and escaped mass.

    The pairs are as near as `STEPS` iterations from the sketch's vectors bring them, so that the
    upper bound isn't promised; the lower one holds, since they are projected from the right.

    torch.lobpcg wants 3(k+1) rows, and a matrix of rank k+1 at least: smaller matrices are left to
    `gram`, and so are stacks for which it raises or returns what isn't finite.
    """
    exact = stack.double()
    wide = stack.shape[-2] <= stack.shape[-1]
    if 3 * (rank + 1) > min(stack.shape[-2:]):
        return gram(stack, rank, warm)
    inner = exact @ exact.mT if wide else exact.mT @ exact
    values = dense.retried(lambda matrix: (torch.linalg.eigvalsh(matrix),), inner)[0].flip(-1)
    roots = values.clamp_min(0).sqrt()
    start = started(warm.double(), 1)
    start = start if wide else exact.mT @ start
    try:
        _, vectors = torch.lobpcg(inner, X=torch.linalg.qr(start)[0], niter=STEPS, largest=True)
    except torch.linalg.LinAlgError:
        return gram(stack, rank, warm)
    if not vectors.isfinite().all():
        return gram(stack, rank, warm)
    right = exact.mT @ vectors if wide else vectors
    left, near, _ = project(exact, torch.linalg.qr(right)[0])
    resolution = max(8 * torch.finfo(stack.dtype).eps, squared_resolution(torch.float64))
    found = dense.leading(left, near, rank, resolution)
    oracle = dense.leading(left, roots, rank, resolution)
    found = found._replace(cutoff=oracle.cutoff, escaped=oracle.escaped)
    return Leading(*(part.to(stack.dtype) for part in found))
