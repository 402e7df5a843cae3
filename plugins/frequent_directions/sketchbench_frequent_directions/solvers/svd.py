"""The full singular value decomposition of the stack: the oracle, O(dc·min(d, c))."""

from __future__ import annotations

import torch
from torch import Tensor

from sketchbench_frequent_directions.solvers import Leading


def svd(stack: Tensor, rank: int, warm: Tensor) -> Leading:
    """Return the leading pairs, exact to rounding in the stack's precision."""
    vectors, roots, _ = torch.linalg.svd(stack, full_matrices=False)
    missing = rank - roots.shape[-1]  # fewer columns than directions
    if missing > 0:
        roots = torch.nn.functional.pad(roots, (0, missing))
        vectors = torch.nn.functional.pad(vectors, (0, missing))
    full = roots.shape[-1] > rank
    cutoff = roots[..., rank] if full else roots.new_zeros(roots.shape[:-1])
    return Leading(vectors[..., :rank], roots[..., :rank], cutoff, cutoff.square())
