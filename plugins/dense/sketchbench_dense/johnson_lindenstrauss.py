"""The fast Johnson–Lindenstrauss transform: a sparse Gaussian matrix behind a Hadamard matrix."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from sketchbench import Field, GradientSketch, Guarantee, LinearSketch
from sketchbench.linalg import expect_length, fwht, normals, padded, seed_of, signs, stream

CHUNK = 2**20  # entries of a product held at a time


class FJL(GradientSketch):
    """Φx = √(M/(D·r)) G H B x: G (D, M) has r Gaussians a row. [Ailon & Chazelle 2009]

    As in eq. 2 of Schioppa 2024; B are signs, H is the orthonormal Hadamard matrix of order M, the
    power of two that N is padded to. r = ⌈ln²M⌉ is the density of Ailon and Chazelle, with M for
    their number of vectors, and Schioppa's D·log²M in all.

    With u = HBx, S a row's mean of M·u² over its r places: D·Var‖Φx‖²/2 = 1 + 3/2·E Var S, and
    Var S = (M·‖u‖₄⁴ − 1)/r, E‖u‖₄⁴ = (3 − 2‖x‖₄⁴)/M. Hence κ ≤ 1 + 3(1 − 1/N)/r.

    O(N log N + D·r) time, which reads M numbers at random places; N + 8·D·r bytes.
    Differs from the papers: 1. Each row has r places drawn with replacement, where Ailon and
    Chazelle draw every entry by itself, so rows are of one length. 2. The scale is that of the
    r Gaussians, which √(N/D) leaves to G_s.
    """

    name = "fjl"
    out_size: int = Field(256, ge=1, description="D, length of the sketch.")
    row_nonzeros: int | None = Field(
        None, ge=1, description="r, Gaussians in a row of G; ⌈ln²M⌉ where not given."
    )

    def build(self, size: int, rng: Generator, device: torch.device) -> LinearSketch:
        """Draw the signs, and the Gaussians and places of G."""
        return SparseGaussian((self.out_size, size), self._row_nonzeros(size), seed_of(rng), device)

    def guarantee(self, size: int) -> Guarantee:
        """Promise κ ≤ 1 + 3(1 − 1/N)/r of every vector."""
        return Guarantee(kappa=1 + 3 * (1 - 1 / size) / self._row_nonzeros(size))

    def state_bytes(self, size: int) -> int:
        """Return the bytes of the signs, and of D·r Gaussians with their places."""
        return size + 8 * self.out_size * self._row_nonzeros(size)

    def _row_nonzeros(self, size: int) -> int:
        return self.row_nonzeros or max(1, math.ceil(math.log(padded(size)) ** 2))


class SparseGaussian:
    """G H B (D, N), scaled: signs, a Walsh–Hadamard transform, and D sums of r products each.

    What is narrower than float32 is computed in float32 and rounded once.
    """

    def __init__(
        self, shape: tuple[int, int], row_nonzeros: int, seed: int, device: torch.device
    ) -> None:
        order = padded(shape[1])
        if order > 2**31:
            raise ValueError(f"fjl: places in a vector of {shape[1]} don't fit 4 bytes")
        self.shape = shape
        self._order = order
        self._scale = (order / (shape[0] * row_nonzeros)) ** 0.5
        rng = stream(seed, "fjl")
        self._signs = signs(rng, shape[1]).to(device)  # B (N,) int8
        self._gauss = normals(rng, shape[0], row_nonzeros).to(device)  # of G (D, r) float32
        drawn = rng.integers(order, size=(shape[0], row_nonzeros), dtype="int32")
        self._places = torch.from_numpy(drawn).clone().to(device)  # of those (D, r) int32

    def apply(self, x: Tensor) -> Tensor:
        """Map x (..., N) to Φx (..., D)."""
        expect_length("fjl", x, self.shape[1])
        wide = x.to(torch.promote_types(x.dtype, torch.float32)) * self._signs
        mixed = fwht(F.pad(wide, (0, self._order - self.shape[1]))).reshape(-1, self._order)
        products = []
        for rows in self._rows(len(mixed)):
            found = mixed.index_select(-1, self._places[rows].view(-1))
            found = found.unflatten(-1, (-1, self._gauss.shape[1]))
            products.append((found * self._gauss[rows]).sum(-1))
        product = torch.cat(products, -1).mul(self._scale)
        return product.reshape(*x.shape[:-1], self.shape[0]).to(x.dtype)

    def adjoint(self, y: Tensor) -> Tensor:
        """Map y (..., D) to Φᵀy (..., N)."""
        expect_length("fjl", y, self.shape[0])
        wide = y.to(torch.promote_types(y.dtype, torch.float32)) * self._scale
        wide = wide.reshape(-1, self.shape[0])
        mixed = wide.new_zeros(len(wide), self._order)
        for rows in self._rows(len(wide)):
            values = (wide[:, rows, None] * self._gauss[rows]).flatten(1)
            places = self._places[rows].view(-1)
            mixed.scatter_add_(1, places.long().expand_as(values), values)
        product = fwht(mixed)[:, : self.shape[1]] * self._signs
        return product.reshape(*y.shape[:-1], self.shape[1]).to(y.dtype)

    def _rows(self, batch: int) -> list[slice]:
        """Return stretches of the rows of G, so that a batch's products fit a chunk."""
        step = max(1, CHUNK // (max(1, batch) * self._gauss.shape[1]))
        return [slice(low, low + step) for low in range(0, self.shape[0], step)]
