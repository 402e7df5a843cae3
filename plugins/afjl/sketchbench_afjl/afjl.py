"""AFJL as published: the first rows of a permuted Hadamard matrix, which isn't a valid sketch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from pydantic import model_validator
from torch import Generator, Tensor
from torch.nn import functional as F

from sketchbench import Field, GradientSketch, Guarantee
from sketchbench.linalg import (
    adversarial,
    apply_kronecker,
    expect_length,
    expect_power_of_two,
    hadamard,
    normals,
    orders_up_to,
    permutation,
    seed_of,
    signs,
    stream,
)

METHOD = "afjl"  # part of what a seed means
APART = 8.0  # κ of inputs without pairs at the most: about 4, and 6 of Gaussian outer products


class AFJL(GradientSketch):
    """y = R_D √(M/D) G H^π₁ B x. [Schioppa 2024, eq. 7]

    M is the least power of two that holds N and D, B are random signs, H is the orthonormal
    Hadamard matrix as a Kronecker product of factors whose rows π₁ permutes, R_D keeps the first D
    rows and G is a Gaussian diagonal of D numbers.

    Not a valid sketch. The first D rows agree, but for a sign each, in coordinates whose indices
    differ only along axes of which they hold one row: those are added up as CountSketch adds the
    entries of a bucket, with a hash that no seed changes (i mod D, without π₁). Of the pair
    (e_i + e_{i+D})/√2 either nothing is left or twice its energy, however large D is. On vectors
    without such pairs G costs a factor of 4 in D: κ ≈ 4. `srht` has neither fault.

    Differs from the paper: 1. Scaled by the padded M, not N: else it isn't unbiased.
    """

    name = "afjl"
    out_size: int = Field(256, ge=1, description="D, length of the sketch: a power of two.")
    factor_size: int = Field(
        1024, ge=2, description="Largest order of a Kronecker factor, a power of two."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for field in ("out_size", "factor_size"):
            expect_power_of_two("gradient_sketch 'afjl'", field, getattr(self, field))
        return self

    def build(self, size: int, rng: Generator, device: torch.device) -> AFJLSketch:
        """Draw signs, Gaussians and permutations of S (D, size)."""
        orders = self._orders(size)
        drawn = stream(seed_of(rng), METHOD)
        sign, gaussians = signs(drawn, size), normals(drawn, self.out_size)
        rows = [permutation(drawn, order).to(device) for order in orders]
        return AFJLSketch(sign.to(device), gaussians.to(device), rows)

    def guarantee(self, size: int) -> Guarantee:
        """Return κ of inputs without pairs and the named pairs that break it, or the largest κ.

        κ(x) = 3 − 2 Σ p_i² + D Σ_{i≠j} W_ij p_i p_j with p_i = x_i², ‖x‖ = 1 and W from
        `agreement`. The first part is what G adds; the second is 1 on average over all pairs and
        doesn't shrink as D grows where rows agree. Where a single factor holds all rows, they are
        rows drawn at random, and it is valid; where no named pair breaks it, κ is the largest.
        """
        worst = 3 + self.out_size * max(self.agreement(size, 1 << b) for b in range(_bits(size)))
        if worst <= APART:
            return Guarantee(worst)
        places = {name: x.nonzero().flatten() for name, x in _pairs(size, self.out_size).items()}
        broken = [
            name
            for name, (i, j) in places.items()
            if 2 + self.out_size * self.agreement(size, int(i) ^ int(j)) / 2 > APART
        ]
        return Guarantee(APART, tuple(broken)) if broken else Guarantee(worst)

    def agreement(self, size: int, difference: int) -> float:
        """Return W_ij of entries with i ⊕ j = `difference`, not 0: E A_ij² over π₁.

        A_ij is the mean over the D rows of M·H_ri·H_rj. By axes of the Kronecker product: the rows
        hold one row of the upper axes (W = 1), b of f rows at random of one (the variance of a mean
        of b of f signs that add up to 0), all of the lower (W = 0, where i and j differ along it).
        """
        found, rest = 1.0, self.out_size
        for order in reversed(self._orders(size)):
            rows, digit = min(rest, order), difference % order
            if digit:
                found *= (order - rows) / (rows * (order - 1))
            difference, rest = difference // order, rest // rows
        return found

    def state_bytes(self, size: int) -> int:
        """Return int8 signs, float32 Gaussians and int64 permutations of the factors."""
        return size + 4 * self.out_size + 8 * sum(self._orders(size))

    def _orders(self, size: int) -> list[int]:
        """Return the orders of the Kronecker factors, as equal as they can be."""
        return list(orders_up_to(self.factor_size, max(size, self.out_size)))


class AFJLSketch:
    """The map x ↦ R_D √(M/D) G H^π₁ B x.

    float64 is computed in float64, everything else in float32 and rounded once.
    """

    def __init__(self, sign: Tensor, gaussians: Tensor, rows: Sequence[Tensor]) -> None:
        """Take B (N,), G (D,), and π₁ as one permutation a factor."""
        self.shape = (len(gaussians), len(sign))
        self._signs, self._gaussians, self._rows = sign, gaussians, rows
        self._order = math.prod(len(p) for p in rows)
        self._scale = math.sqrt(self._order / len(gaussians))

    def apply(self, x: Tensor) -> Tensor:
        """Map x (..., N) to Sx (..., D)."""
        expect_length("afjl", x, self.shape[1])
        image = self._mixed(x)[..., : self.shape[0]]
        return (self._scale * image * self._gaussians).to(x.dtype)

    def adjoint(self, y: Tensor) -> Tensor:
        """Map y (..., D) to Sᵀy (..., N)."""
        expect_length("afjl", y, self.shape[0])
        wide = self._scale * y.to(torch.promote_types(y.dtype, torch.float32)) * self._gaussians
        wide = F.pad(wide, (0, self._order - self.shape[0]))
        back = apply_kronecker(wide, [h.mT for h in self._factors(wide.dtype)])
        return (back[..., : self.shape[1]] * self._signs).to(y.dtype)

    def conditional_kappa(self, x: Tensor) -> float:
        """Return D·E(‖Sx‖² − 1)²/2 over the Gaussians alone, of x/‖x‖ for x (N,).

        Signs and rows settle what is left of x, so that the mean over Gaussians isn't 1.
        """
        energies = self._mixed(x.double() / x.double().norm())[: self.shape[0]].square()
        energies *= self._scale**2
        return float(self.shape[0] * (energies.square().sum() + (energies.sum() - 1) ** 2 / 2))

    def _mixed(self, x: Tensor) -> Tensor:
        """Return H^π₁ B x, padded: (..., M)."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32)) * self._signs
        wide = F.pad(wide, (0, self._order - self.shape[1]))
        return apply_kronecker(wide, self._factors(wide.dtype))

    def _factors(self, dtype: torch.dtype) -> list[Tensor]:
        return [hadamard(len(p), dtype, p.device)[p] for p in self._rows]


def _bits(size: int) -> int:
    """Return how many bits the indices of a vector have, 1 at the least."""
    return max(1, (size - 1).bit_length())


def _pairs(size: int, out_size: int) -> dict[str, Tensor]:
    """Return the adversarial inputs that have two entries."""
    found = adversarial(size, out_size)
    return {name: found[name] for name in ("pair", "half-pair", "ends") if name in found}
