"""The smaller Gram matrix in the stack's own precision, guarded: half the time of `gram`."""

from __future__ import annotations

import torch
from torch import Tensor

from sketchbench_frequent_directions.solvers import Leading
from sketchbench_frequent_directions.solvers import decompositions as dense
from sketchbench_frequent_directions.solvers.gram import gram, pairs, squared_resolution

GUARD = 0.1  # the largest |UᵀU − I| that a QR decomposition mends without changing what is spanned


class Gram32:
    """As `gram`, without float64; stacks that it can't vouch for are given to `gram`.

    A float32 Gram matrix resolves roots down to 1e-3 of the largest. Where the (k+1)-th is below,
    an update would let up to 1e-6·λ₁ go, that neither the sketch nor its tail would hold; and a
    tall stack's vectors are rounding there, whose |UᵀU − I| reaches 0.5 and more (above `GUARD` no
    QR decomposition mends it). `fallbacks` counts such stacks: those of sketches that aren't
    filled, and of nearly low-rank streams, which are better served by `gram` itself.
    """

    def __init__(self) -> None:
        self.fallbacks = 0  # stacks given to `gram`, in this process

    def __call__(self, stack: Tensor, rank: int, warm: Tensor) -> Leading:
        """Return the leading pairs; squares of roots to 1e-6 of the largest an update, in float32.

        These errors are of either sign and add up, over 1/(1 − β₂) updates of a stream that decays.
        """
        vectors, roots, loss = pairs(stack, rank, 8 * torch.finfo(stack.dtype).eps)
        resolution = squared_resolution(stack.dtype)
        found = dense.leading(vectors, roots, rank, resolution)
        failed = ~(loss <= GUARD) | dense.hidden(roots, rank, resolution)
        if dense.told(failed.any(), assumed=False):
            self.fallbacks += int(failed.sum())
        return dense.replaced(found, failed, gram, stack, warm)

    def __reduce__(self) -> str:
        """Copy and pickle as the one that there is, so that all falls count in one place."""
        return "gram32"


gram32 = Gram32()
