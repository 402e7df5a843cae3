"""The sketch itself: what Frequent Directions keeps of C, as plain tensors, and its update.

Everything is batched: leading dimensions `...` are independent sketches of one shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sketchbench_frequent_directions.solvers import Solver


class Sketch(NamedTuple):
    """U·diag(σ²)·Uᵀ + tail·I, above C = Σ aaᵀ where the solver's bound is certified."""

    vectors: Tensor  # U (..., d, k): orthonormal columns, or 0 where σ is
    roots: Tensor  # σ (..., k), descending: roots of the deflated eigenvalues
    tail: Tensor  # (...): escaped mass ρ, decayed like the rest


def empty(
    size: int,
    rank: int,
    batch: Sequence[int] = (),
    *,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> Sketch:
    """Return the sketch of C = 0 (d, d), with d = `size` and min(rank, d) directions."""
    kept = min(rank, size)
    zeros = torch.zeros(*batch, size * kept + kept + 1, device=device, dtype=dtype)
    vectors, roots, tail = zeros.split([size * kept, kept, 1], dim=-1)
    return Sketch(
        vectors.unflatten(-1, (size, kept)).clone(), roots.clone(), tail.squeeze(-1).clone()
    )


def absorb(
    sketch: Sketch, increment: Tensor, *, beta2: float, tail_decay: float, solver: Solver
) -> Sketch:
    """Return the sketch of β₂C + GGᵀ for an increment G (..., d, n). [Feinberg et al. 2023, Alg. 1]

    Rank k here is ℓ = k + 1 there: the (k+1)-th eigenvalue is what all are lowered by. The tail
    decays by `tail_decay`: β₂ in the paper, √β₂ in the authors' `tearfree/sketchy.py`.
    """
    decayed = sketch.roots * beta2**0.5
    stack = torch.cat([sketch.vectors * decayed.unsqueeze(-2), increment], dim=-1)
    found = solver(stack, sketch.roots.shape[-1], sketch.vectors)
    cutoff = found.cutoff.unsqueeze(-1)
    roots = (found.roots - cutoff).clamp_min(0).sqrt() * (found.roots + cutoff).sqrt()
    vectors = torch.where(roots.unsqueeze(-2) > 0, found.vectors, 0)
    return Sketch(vectors, roots, tail_decay * sketch.tail + found.escaped)
