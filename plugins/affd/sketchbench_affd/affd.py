"""AFFD as published: two transforms of the whole vector. The oracle of `block-affd`."""

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

METHOD = "affd"  # part of what a seed means


class AFFD(GradientSketch):
    """y = R_D √(M/D) H^π₂ G H^π₁ B x. [Schioppa 2024, eq. 6]

    M is the least power of two that holds N and D, B are random signs, G is a Gaussian diagonal, H
    is the orthonormal Hadamard matrix as a Kronecker product of factors, of which π₁ permutes the
    rows and π₂ the columns, and R_D keeps the first D entries.

    R_D √(M/D) H v = H_D fold_D(v), so that y is Gaussian given the rest, with variances that H_D
    turns: those of the groups that the fold adds up. Permuted factors keep some pairs of entries
    together in every group, wherever D covers a factor: κ reaches 3 on an x that is flat along the
    last factor. It takes 3 M numbers of fresh memory; `block-affd` takes none and has a lower κ.

    Differs from the paper: 1. Scaled by the padded M, not N: else it isn't unbiased.
    """

    name = "affd"
    out_size: int = Field(256, ge=1, description="D, length of the sketch: a power of two.")
    permuted: bool = Field(True, description="Permute rows and columns of the Kronecker factors.")
    factor_size: int = Field(
        1024, ge=2, description="Largest order of a Kronecker factor, a power of two."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        expect_power_of_two(f"gradient_sketch '{self.name}'", "out_size", self.out_size)
        expect_power_of_two(f"gradient_sketch '{self.name}'", "factor_size", self.factor_size)
        return self

    def build(self, size: int, rng: Generator, device: torch.device) -> AFFDSketch:
        """Draw signs, Gaussians and permutations of S (D, size)."""
        orders = self._orders(size)
        drawn = stream(seed_of(rng), METHOD)
        sign, gaussians = signs(drawn, size), normals(drawn, math.prod(orders))
        draw = permutation if self.permuted else lambda _, order: torch.arange(order)
        rows, columns = ([draw(drawn, order) for order in orders] for _ in range(2))
        return AFFDSketch(
            (self.out_size, size),
            sign.to(device),
            gaussians.to(device),
            [p.to(device) for p in rows],
            [p.to(device) for p in columns],
        )

    def guarantee(self, size: int) -> Guarantee:
        """Return a bound on κ(x) = 1 + 2 Σ_{i≠j} W_ij x_i² x_j² for ‖x‖ = 1.

        W_ij is the mean, over signs and permutations, of D Σ_c A_c,ij², A_c the projection on the
        rows of H in group c. By axes of the Kronecker product: entries that differ along an axis of
        which a group holds all rows have W = 0; along one of which it holds f/b of f rows, chosen
        at random, W = (b − 1)/(f − 1), or 1 where they aren't permuted and share a group; along one
        of which it holds a single row, 1. Then Σ_{i≠j} x_i² x_j² ≤ 1 − 1/M.
        """
        orders, rest = self._orders(size), self.out_size
        while rest >= orders[-1] and len(orders) > 1:  # axes of which a group holds a single row
            rest //= orders.pop()
        alone = rest < self.out_size
        share = (rest - 1) / max(1, orders[-1] - 1) if self.permuted else float(rest > 1)
        largest = 1.0 if alone else share
        entries = min(size, math.prod(self._orders(size)))
        return Guarantee(1 + 2 * largest * (1 - 1 / entries))

    def state_bytes(self, size: int) -> int:
        """Return int8 signs, float32 Gaussians and int64 permutations of the factors."""
        orders = self._orders(size)
        return size + 4 * math.prod(orders) + 2 * 8 * sum(orders)

    def _orders(self, size: int) -> list[int]:
        """Return the orders of the Kronecker factors, as equal as they can be."""
        return list(orders_up_to(self.factor_size, max(size, self.out_size)))


class AFFDSketch:
    """The map x ↦ R_D √(M/D) H^π₂ G H^π₁ B x.

    float64 is computed in float64, everything else in float32 and rounded once.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        sign: Tensor,
        gaussians: Tensor,
        rows: Sequence[Tensor],
        columns: Sequence[Tensor],
    ) -> None:
        """Take B (N,), G (M,), and π₁ and π₂ as one permutation a factor."""
        self.shape = shape
        self._signs, self._gaussians = sign, gaussians
        self._rows, self._columns = rows, columns
        self._scale = math.sqrt(len(gaussians) / shape[0])

    def apply(self, x: Tensor) -> Tensor:
        """Map x (..., N) to Sx (..., D)."""
        expect_length("affd", x, self.shape[1])
        spread = self._mixed(x)
        spread *= self._gaussians
        image = apply_kronecker(spread, self._second(spread.dtype))
        return (self._scale * image[..., : self.shape[0]]).to(x.dtype)

    def adjoint(self, y: Tensor) -> Tensor:
        """Map y (..., D) to Sᵀy (..., N)."""
        expect_length("affd", y, self.shape[0])
        wide = self._scale * y.to(torch.promote_types(y.dtype, torch.float32))
        wide = F.pad(wide, (0, len(self._gaussians) - self.shape[0]))
        spread = apply_kronecker(wide, [h.mT for h in self._second(wide.dtype)])
        spread *= self._gaussians
        back = apply_kronecker(spread, [h.mT for h in self._first(wide.dtype)])
        return (back[..., : self.shape[1]] * self._signs).to(y.dtype)

    def conditional_kappa(self, x: Tensor) -> float:
        """Return D·Var‖Sx‖²/2 over the Gaussians alone, of x/‖x‖ for x (N,): D·Σ_c S_c²."""
        energies = self._mixed(x.double()).square().view([len(p) for p in self._columns])
        for axis, places in enumerate(self._columns):
            energies = energies.index_select(axis, places.argsort())
        groups = energies.reshape(-1, self.shape[0]).sum(0)
        return float(self.shape[0] * (groups / groups.sum()).square().sum())

    def _mixed(self, x: Tensor) -> Tensor:
        """Return H^π₁ B x, padded: (..., M)."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32)) * self._signs
        wide = F.pad(wide, (0, len(self._gaussians) - self.shape[1]))
        return apply_kronecker(wide, self._first(wide.dtype))

    def _first(self, dtype: torch.dtype) -> list[Tensor]:
        return [hadamard(len(p), dtype, p.device)[p] for p in self._rows]

    def _second(self, dtype: torch.dtype) -> list[Tensor]:
        return [hadamard(len(p), dtype, p.device)[:, p] for p in self._columns]
