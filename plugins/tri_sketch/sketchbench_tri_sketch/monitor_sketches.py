"""What a monitor sketches: projections, EMAs of sketches, and norms read off small matrices."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from sketchbench.measure import category


class Projections:
    """The projections of all matrices (rows, n): fixed Υ, Φ, Ω, and a fresh U (rows, fresh).

    Held as the rows of one matrix (3k + 1 + fresh, rows), so that one product sketches a matrix in
    all ways at once: [Υ Φ Ω]ᵀ, the mean row 1/rows, and Uᵀ, which `renew` draws again.
    """

    def __init__(self, rows: int, size: int, fresh: int, rng: Generator, like: Tensor) -> None:
        fixed = torch.randn(3 * size, rows, generator=rng)
        mean, varying = torch.full((1, rows), 1 / rows), torch.zeros(fresh, rows)
        with category("sketch"):
            self.matrix = torch.cat([fixed, mean, varying]).to(like)
        self.fresh = self.matrix[3 * size + 1 :]
        self.outputs = self.matrix[2 * size : 3 * size]  # Ωᵀ

    def renew(self, rng: Generator) -> None:
        """Draw U again, on the CPU."""
        if self.fresh.device.type == "cpu" and self.fresh.dtype == torch.float32:
            self.fresh.normal_(generator=rng)
        else:
            self.fresh.copy_(torch.randn(self.fresh.shape, generator=rng))


class Average:
    """The EMA of one activation matrix's sketches: X, Z, Y and the mean row, as (3k + 1, n).

    By linearity it is the sketch of the matrices' EMA [Lemma 4.1], as long as the projections
    stay; what it has of it after t batches is 1 − β^t, its `mass`.
    """

    def __init__(self, size: int, width: int, beta: float, like: Tensor) -> None:
        self.beta, self.mass = beta, 0.0
        with category("sketch"):
            self.state = like.new_zeros(3 * size + 1, width)

    def update(self, sketches: Tensor) -> None:
        """Average in one batch's sketches (3k + 1, n)."""
        self.state.lerp_(sketches, 1 - self.beta)
        self.mass = 1 - self.beta * (1 - self.mass)

    def gram(self) -> Tensor:
        """Return the inner products (3k + 1, 3k + 1) of the sketches' columns and the mean row."""
        return self.state @ self.state.mT


def centring(sums: Tensor) -> Tensor:
    """Return the matrices (2, …, k, k + 1) that take Gram matrices with a mean row to those of Y.

    From G (…, k + 1, k + 1) of Y's columns and the mean row ā, J G Jᵀ is Y's Gram matrix with
    J = [I 0], and that of the centred sketch (A − 1āᵀ)ᵀΩ = AᵀΩ − ā(Ωᵀ1)ᵀ with J = [I −Ωᵀ1];
    `sums` (…, k) is Ωᵀ1.
    """
    unit = torch.eye(sums.shape[-1]).to(sums).expand(*sums.shape, sums.shape[-1])
    return torch.stack(
        [torch.cat([unit, column[..., None]], dim=-1) for column in (0 * sums, -sums)]
    )


def stable_rank(gram: Tensor) -> Tensor:
    """Return ‖S‖_F²/‖S‖₂² for Gram matrices SᵀS (…, k, k); NaN where S is zero or not finite."""
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)
    finite = torch.nan_to_num(gram / trace[..., None, None])  # eigvalsh raises on what isn't
    return (trace / trace) / torch.linalg.eigvalsh(finite)[..., -1]


def two_sided(size: int, like: Tensor) -> Tensor:
    """Return weights (2, 1, k, k) that make ‖ĝ‖² and an unbiased ‖g‖² of (TTᵀ)·(WWᵀ), entrywise.

    T = Uᵀδ and W = UᵀA, with the columns u of U (rows, k) independent N(0, I). The sum over all
    entries is k²‖ĝ‖² with ĝ = TᵀW/k, and E‖ĝ‖² = (1 + 1/k)‖g‖² + ‖δ‖²‖A‖²/k for g = δᵀA. That
    over i ≠ j has mean k(k − 1)‖g‖², since E (uᵢᵀδδᵀuⱼ)(uⱼᵀAAᵀuᵢ) = tr(δδᵀAAᵀ) for i ≠ j.
    """
    others = 1 - torch.eye(size)
    weights = torch.stack([torch.ones(size, size) / size**2, others / (size * (size - 1))])
    return weights[:, None].to(like)
