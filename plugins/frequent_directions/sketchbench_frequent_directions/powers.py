"""Powers of a sketched matrix, applied without ever forming d × d."""

from __future__ import annotations

import torch
from torch import Tensor

from sketchbench_frequent_directions.sketch import Sketch


def power(sketch: Sketch, x: Tensor, exponent: float, ridge: Tensor | float = 0.0) -> Tensor:
    """Return (UΣ²Uᵀ + (tail + ridge)·I)^exponent x for x (..., d, n), in 4dkn operations.

    Where tail + ridge is 0 the power is that of the pseudo-inverse: the complement of U is
    projected out. `ridge` is a scalar, or (...) one a sketch. Of x's type; computed in the wider.

    Negative powers of a sketch that is nearly of low rank amplify rounding: within the span of U
    the result is off by about (‖UᵀU − I‖ + ε)·(λ₁/(tail + ridge))^|e|, 1e-6·1e7^|e| in float32 at a
    tail of 1e-7·λ₁ (measured there: 3e-5 at −1/4, 1e-3 at −1/2).
    """
    dtype = torch.promote_types(sketch.vectors.dtype, x.dtype)
    vectors, roots, tail = (part.to(dtype) for part in sketch)
    wide = x.to(dtype)
    floor = tail + torch.as_tensor(ridge, dtype=dtype, device=tail.device)
    inside = roots.square() + floor.unsqueeze(-1)
    low = torch.where(floor > 0, floor.pow(exponent), 0)
    high = torch.where(inside > 0, inside.pow(exponent), 0)
    weights = (high - low.unsqueeze(-1)).unsqueeze(-1)
    applied = low[..., None, None] * wide + vectors @ (weights * (vectors.mT @ wide))
    return applied.to(x.dtype)
