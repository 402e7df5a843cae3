"""The subsampled randomised Hadamard transform: AFJL repaired."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from sketchbench import Field, GradientSketch, Guarantee
from sketchbench.linalg import expect_length, fwht, padded, permutation, seed_of, signs, stream

METHOD = "srht"  # part of what a seed means
ISOMETRY = 1e-6  # κ where all rows are kept: rounding, so that D/κ is a number


class SRHT(GradientSketch):
    """y = √(M/D) R H B x, of D rows drawn without replacement. [Ailon & Chazelle 2006; Tropp 2011]

    B are random signs, H is the orthonormal Hadamard matrix of order M, the least power of two that
    holds N and D, and R picks D of its rows at random: AFJL without the two things that break it,
    rows that come first rather than at random, and a Gaussian diagonal that only adds variance. At
    D = M it is an isometry. It takes up to 2 M numbers of fresh memory; D is any number.
    """

    name = "srht"
    out_size: int = Field(256, ge=1, description="D, length of the sketch: any number.")
    kernel: Literal["auto", "torch", "compiled"] = Field(
        "auto",
        description="Which transform computes; `sketchbench.linalg.compiled()` says of auto.",
    )

    def build(self, size: int, rng: Generator, device: torch.device) -> SRHTSketch:
        """Draw the signs and the rows of S (D, size)."""
        order = padded(max(size, self.out_size))
        drawn = stream(seed_of(rng), METHOD)
        sign, rows = signs(drawn, size), permutation(drawn, order)[: self.out_size]
        return SRHTSketch(order, sign.to(device), rows.clone().to(device), self.kernel)

    def guarantee(self, size: int) -> Guarantee:
        """Return the largest κ(x), that of an x which is flat.

        κ(x) = (M − D)/(M − 1) · (1 − Σ x_i⁴) for ‖x‖ = 1: with S = √(M/D) R H B,
        ‖Sx‖² = Σ_ij A_ij B_i B_j x_i x_j, A_ii = 1, of variance 2 Σ_{i≠j} A_ij² x_i² x_j² over B,
        and D random rows have E A_ij² = (M − D)/(D(M − 1)): the variance of a mean of D of M signs
        that add up to 0, drawn without replacement.
        """
        order = padded(max(size, self.out_size))
        share = (order - self.out_size) / max(1, order - 1)
        return Guarantee(max(ISOMETRY, share * (1 - 1 / size)))

    def state_bytes(self, size: int) -> int:
        """Return int8 signs and int64 rows."""
        return size + 8 * self.out_size


class SRHTSketch:
    """The map x ↦ √(M/D) R H B x.

    float64 is computed in float64, everything else in float32 and rounded once.
    """

    def __init__(
        self, order: int, sign: Tensor, rows: Tensor, kernel: Literal["auto", "torch", "compiled"]
    ) -> None:
        """Take M, B (N,), and the rows (D,) that are kept."""
        self.shape = (len(rows), len(sign))
        self.kernel = kernel
        self._order, self._signs, self._rows = order, sign, rows
        self._scale = math.sqrt(order / len(rows))

    def apply(self, x: Tensor) -> Tensor:
        """Map x (..., N) to Sx (..., D)."""
        expect_length(METHOD, x, self.shape[1])
        wide = x.to(torch.promote_types(x.dtype, torch.float32)) * self._signs
        mixed = self._transformed(F.pad(wide, (0, self._order - self.shape[1])))
        return (self._scale * mixed[..., self._rows]).to(x.dtype)

    def adjoint(self, y: Tensor) -> Tensor:
        """Map y (..., D) to Sᵀy (..., N)."""
        expect_length(METHOD, y, self.shape[0])
        wide = y.new_zeros(
            *y.shape[:-1], self._order, dtype=torch.promote_types(y.dtype, torch.float32)
        )
        wide[..., self._rows] = self._scale * y.to(wide.dtype)
        return (self._transformed(wide)[..., : self.shape[1]] * self._signs).to(y.dtype)

    def _transformed(self, x: Tensor) -> Tensor:
        return fwht(x, kernel=self.kernel)
