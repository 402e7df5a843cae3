"""QK with balanced factors, as its theorem has it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from sketchbench import Field, GradientSketch, Guarantee
from sketchbench.linalg import apply_kronecker, expect_length, orthogonal, seed_of, stream
from sketchbench_qk.shapes import shapes, variance

METHOD = "qk"  # part of what a seed means
ISOMETRY = 1e-6  # κ where all rows are kept: rounding, so that D/κ is a number


class QK(GradientSketch):
    """y = √(M/D) (Q₁ ⊗ … ⊗ Q_K) x, with D_i Haar rows of B_i entries each. [Schioppa 2024, eq. 8]

    ∏ D_i = D, and ∏ B_i = M is N or little more: factors are any numbers, so that hardly anything
    is padded. Valid [Theorem 3.3], but its error is governed by the D_i, not by D: κ below is
    near K·D^(1 − 1/K), the effective dimension D/κ near D^(1/K)/K. K·N^(1/K)·D^(1/K) numbers of
    state, and the fewest operations of all.

    Differs from the paper: 1. Of all ways to write D as a product, the one of least variance.
    2. Q of a Gaussian matrix gets the signs of R's diagonal, without which it isn't Haar.
    """

    name = "qk"
    out_size: int = Field(
        256, ge=1, description="D, length of the sketch: any number; primes cost."
    )
    factors: int = Field(2, ge=1, le=4, description="K, how many factors; κ grows with it.")

    def build(self, size: int, rng: Generator, device: torch.device) -> QKSketch:
        """Draw the factors of S (D, size)."""
        rows, columns = shapes(size, self.out_size, self.factors)
        seed = seed_of(rng)
        drawn = [
            orthogonal(stream(seed, METHOD, index), b, d).float().to(device)
            for index, (d, b) in enumerate(zip(rows, columns, strict=True))
        ]
        return QKSketch((self.out_size, size), drawn)

    def guarantee(self, size: int) -> Guarantee:
        """Return κ = D·Var/2 of a product vector: Var = ∏(1 + 2(B_i − D_i)/(D_i(B_i + 2))) − 1.

        That is the largest. ‖Sx‖² = Σ x_I x_J ∏ P_i with P = (B/D)QᵀQ, of which
        E P_ij P_kl = α δ_ij δ_kl + β (δ_ik δ_jl + δ_il δ_jk), α = 1 − 2β/B and β both 0 or more.
        So E‖Sx‖⁴ is a sum, with weights of 0 or more, of contractions of x⊗x⊗x⊗x that pair the four
        indices of each axis; each is 1 at most by Cauchy–Schwarz, and 1 for a product vector.
        """
        rows, columns = shapes(size, self.out_size, self.factors)
        return Guarantee(max(ISOMETRY, self.out_size * variance(rows, columns) / 2))

    def state_bytes(self, size: int) -> int:
        """Return the float32 factors."""
        return 4 * sum(
            d * b for d, b in zip(*shapes(size, self.out_size, self.factors), strict=True)
        )


class QKSketch:
    """The map x ↦ the first D entries of √(M/D) (Q₁ ⊗ … ⊗ Q_K) x.

    float64 is computed in float64, everything else in float32 and rounded once.
    """

    def __init__(self, shape: tuple[int, int], factors: Sequence[Tensor]) -> None:
        """Take (D, N) and the factors Q_i (D_i, B_i); ∏ D_i may exceed D."""
        self.shape = shape
        self._factors = factors
        self._rows = math.prod(q.shape[0] for q in factors)
        self._columns = math.prod(q.shape[1] for q in factors)
        self._scale = math.sqrt(self._columns / shape[0])

    def apply(self, x: Tensor) -> Tensor:
        """Map x (..., N) to Sx (..., D)."""
        expect_length(METHOD, x, self.shape[1])
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        first, *others = (q.to(wide.dtype) for q in self._factors)
        rest = self._columns // first.shape[1]
        whole = self.shape[1] // rest  # rows of x as a matrix; what is left is padded, not x
        mixed = first[:, :whole] @ wide[..., : whole * rest].unflatten(-1, (whole, rest))
        left = wide[..., whole * rest :]
        if left.shape[-1]:
            left = F.pad(left, (0, rest - left.shape[-1]))
            mixed = mixed + first[:, whole, None] * left.unsqueeze(-2)
        image = apply_kronecker(mixed, others).flatten(-2) if others else mixed.flatten(-2)
        return (self._scale * image[..., : self.shape[0]]).to(x.dtype)

    def adjoint(self, y: Tensor) -> Tensor:
        """Map y (..., D) to Sᵀy (..., N)."""
        expect_length(METHOD, y, self.shape[0])
        wide = self._scale * y.to(torch.promote_types(y.dtype, torch.float32))
        wide = F.pad(wide, (0, self._rows - self.shape[0]))
        back = apply_kronecker(wide, [q.to(wide.dtype).mT for q in self._factors])
        return back[..., : self.shape[1]].to(y.dtype)
