"""The smaller Gram matrix in the stack's own precision, guarded: half the time of `gram`."""

from __future__ import annotations

import torch
from torch import Tensor

from sketchbench_frequent_directions.solvers import Leading
from sketchbench_frequent_directions.solvers import decompositions as dense
from sketchbench_frequent_directions.solvers.gram import gram, pairs, squared_resolution

GUARD = 0.1  # the largest |UᵀU − I| that a QR decomposition mends without changing what is spanned


class Gram32:
    """As `gram`, without float64; stacks whose vectors fail the guard are given to `gram`.

    A float32 Gram matrix resolves roots down to 3e-4 of the largest; below, a tall stack's vectors
    are rounding, and |UᵀU − I| reaches 0.5 and more on nearly low-rank streams. What of it is above
    `GUARD` falls back, and `fallbacks` counts it; a stream that always does is better served by
    `gram` itself. A wide stack's vectors are those of eigh, orthonormal in any case.
    """

    def __init__(self) -> None:
        self.fallbacks = 0  # stacks given to `gram`, in this process

    def __call__(self, stack: Tensor, rank: int, warm: Tensor) -> Leading:
        """Return the leading pairs; squares of roots to 1e-6 of the largest in float32."""
        vectors, roots, loss = pairs(stack, rank, 8 * torch.finfo(stack.dtype).eps)
        found = dense.leading(vectors, roots, rank, squared_resolution(stack.dtype))
        failed = ~(loss <= GUARD)
        if not dense.told(failed.any(), assumed=False):
            return found
        self.fallbacks += int(failed.sum())
        better = gram(stack[failed], rank, warm[failed])
        for part, replacement in zip(found, better, strict=True):
            part[failed] = replacement
        return found


gram32 = Gram32()
