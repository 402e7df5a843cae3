"""Solvers: the leading left singular pairs of a stack M = [√β₂·UΣ, G], by several algorithms."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor


class Leading(NamedTuple):
    """What a solver finds of M (..., d, c) for rank k."""

    vectors: Tensor  # (..., d, k), orthonormal columns where the root isn't 0
    roots: Tensor  # (..., k), descending: singular values, 0 where rounding hides them
    cutoff: Tensor  # (...): the (k+1)-th singular value, by which the sketch is deflated; 0 if none
    escaped: Tensor  # (...): what the tail grows by; cutoff², or more where it is a certified bound


class Solver(Protocol):
    """An algorithm for the leading singular pairs."""

    def __call__(self, stack: Tensor, rank: int, warm: Tensor) -> Leading:
        """Return the leading `rank` pairs of `stack` (..., d, c); `warm` (..., d, k) is a guess.

        The largest entry of a stack is of order 1, so that no square over- or underflows.
        """
