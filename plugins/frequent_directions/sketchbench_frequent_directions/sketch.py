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
    shapes = ((*batch, size, kept), (*batch, kept), tuple(batch))
    return Sketch(*(torch.zeros(shape, device=device, dtype=dtype) for shape in shapes))


def absorb(
    sketch: Sketch, increment: Tensor, *, beta2: float, tail_decay: float, solver: Solver
) -> Sketch:
    """Return the sketch of β₂C + GGᵀ for an increment G (..., d, n). [Feinberg et al. 2023, Alg. 1]

    Rank k here is ℓ = k + 1 there: the (k+1)-th eigenvalue is what all are lowered by. The tail
    decays by `tail_decay`: β₂ in the paper, √β₂ in the authors' `tearfree/sketchy.py`. G is finite.

    Differs from the paper: 1. the stack [√β₂·UΣ, G] is decomposed, so that C isn't squared, nor
    formed; it is divided by a power of two, so that squares of it neither over- nor underflow.
    2. σ² − c² is taken as (σ − c)(σ + c), which loses no digits where they are near.
    """
    decayed = sketch.roots * beta2**0.5
    stack = torch.cat([sketch.vectors * decayed.unsqueeze(-2), increment], dim=-1)
    scale = _scale(stack)
    found = solver(stack.div_(scale[..., None, None]), sketch.roots.shape[-1], sketch.vectors)
    cutoff = found.cutoff.unsqueeze(-1)
    roots = (found.roots - cutoff).clamp_min(0).sqrt() * (found.roots + cutoff).sqrt()
    vectors = torch.where(roots.unsqueeze(-2) > 0, found.vectors, 0)
    tail = tail_decay * sketch.tail + found.escaped * scale * scale
    return Sketch(vectors, roots * scale.unsqueeze(-1), tail)


def merged(first: Sketch, second: Sketch, solver: Solver) -> Sketch:
    """Return the sketch of C₁ + C₂: one's directions are columns for the other, tails add up."""
    columns = second.vectors * second.roots.unsqueeze(-2)
    sketch = absorb(first, columns, beta2=1.0, tail_decay=1.0, solver=solver)
    return sketch._replace(tail=sketch.tail + second.tail)


def _scale(stack: Tensor) -> Tensor:
    """Return the power of two (...) that is about the largest entry of a stack (..., d, c)."""
    largest = torch.maximum(stack.amax((-2, -1)), -stack.amin((-2, -1)))
    exponent = torch.frexp(largest).exponent
    return torch.where(largest > 0, torch.ldexp(torch.ones_like(largest), exponent - 1), 1)
