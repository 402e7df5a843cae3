"""The full singular value decomposition of the stack: the oracle, O(dc·min(d, c))."""

from __future__ import annotations

import torch
from torch import Tensor

from sketchbench_frequent_directions.solvers import Leading
from sketchbench_frequent_directions.solvers import decompositions as dense


def svd(stack: Tensor, rank: int, warm: Tensor) -> Leading:
    """Return the leading pairs, exact to rounding in the stack's precision."""
    vectors, roots, _ = dense.svd(stack)
    return dense.leading(vectors, roots, rank, 8 * torch.finfo(stack.dtype).eps)
