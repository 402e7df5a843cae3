"""Preconditioners in the form U·diag(h)·Uᵀ + floor·(I − UUᵀ): solving, and projecting."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

ITERATIONS = 100  # of Newton's method, which takes about six


class Preconditioner(NamedTuple):
    """A symmetric H ⪰ 0 of d × d that is never formed."""

    vectors: Tensor | None  # U (d, k): orthonormal columns, or 0; None is the identity, with k = d
    values: Tensor  # h (k,): H's eigenvalues along U
    floor: Tensor | float = 0.0  # H's eigenvalue on the complement of U

    def solve(self, x: Tensor) -> Tensor:
        """Return H⁺x for x (d,): of Moore and Penrose where an eigenvalue is 0."""
        inverse = self.values.reciprocal().masked_fill_(self.values == 0, 0)
        if self.vectors is None:
            return inverse * x
        floor = float(self.floor)
        low = 1 / floor if floor > 0 else 0.0
        moved: Tensor = torch.mv(self.vectors, (inverse - low) * torch.mv(self.vectors.mT, x))
        return moved.add_(x, alpha=low) if low else moved

    def project(self, y: Tensor, radius: float) -> Tensor:
        """Return the point of the ball ‖x‖ ≤ radius that is nearest to y (d,) in ‖·‖_H.

        x = (H + μI)⁻¹Hy, where 1/‖x‖ is concave in μ, so that Newton's method from μ = 0 comes to
        its root from one side [Moré and Sorensen 1983, §2]. What H doesn't see (eigenvalue 0) takes
        the room that is left: the limit of the projection in H + εI.
        """
        if float(y.norm()) <= radius:
            return y
        if self.vectors is None:
            found = torch.mul(y, _shrinkage(self.values, y, radius))
        else:
            kept = torch.mv(self.vectors.mT, y)
            rest = torch.addmv(y, self.vectors, kept, alpha=-1)
            values = torch.cat([self.values, self.values.new_tensor([float(self.floor)])])
            factors = _shrinkage(values, torch.cat([kept, rest.norm()[None]]), radius)
            found = torch.addmv(factors[-1] * rest, self.vectors, factors[:-1] * kept)
        return found.mul_(min(1.0, radius / float(found.norm())))  # to the last bit


def seen(values: Tensor, size: int) -> Tensor:
    """Return eigenvalues (k,) of a second moment (size, size), 0 where they are its rounding.

    Up to size·ε of the largest they are rounding of the sum Σ ggᵀ: H⁺ would make whole steps of it.
    """
    if not len(values):
        return values
    noise = size * torch.finfo(values.dtype).eps * values.max()
    return torch.where(values > noise, values, 0)


def _shrinkage(values: Tensor, parts: Tensor, radius: float) -> Tensor:
    """Return the factor (n,) of each part (n,) of y, along eigenvectors of these values (n,)."""
    h, y = (part.double().cpu().numpy() for part in (values, parts))
    seen = h > 0
    room = radius**2 - float(np.square(y[seen]).sum())
    if room >= 0:
        beyond = max(float(np.square(y[~seen]).sum()), room)  # 0 where y is out by rounding alone
        factors = np.where(seen, 1.0, math.sqrt(room / beyond) if beyond else 1.0)
        return torch.from_numpy(factors).to(parts)
    root = np.where(seen, h, 1.0)
    moved = np.where(seen, h * y, 0.0)
    mu = 0.0
    for _ in range(ITERATIONS):
        shifted = root + mu
        squares = np.square(moved / shifted)
        square = float(squares.sum())
        excess = math.sqrt(square) / radius - 1
        if excess <= 1e-14:
            break
        mu += excess * square / float((squares / shifted).sum())
    return torch.from_numpy(np.where(seen, h / (root + mu), 0.0)).to(parts)
