"""The three-sketch of a matrix whose rows stream past."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from sketchbench.measure import category
from sketchbench_tri_sketch.triangular import least_squares


class ThreeSketch:
    """X = ΥA (k, n), Y = AΩ (T, k) and Z = ΦAΨᵀ (s, s) of A (T, n), a row at a time; s = 2k + 1.

    Â = Q·(ΦQ)⁺Z((ΨP)⁺)ᵀ·Pᵀ with Q = qr(Y), P = qr(Xᵀ) [Tropp Yurtsever Udell Cevher 2019, §2];
    it is yielded a row at a time, so nothing of A's size is ever made: k(T + n) + s² numbers.
    Projections are Gaussian. Υ and Φ are drawn a column at a time, and again for Â, from a seed
    of their own. Ω and Ψ, n(k + s) numbers, are held while A streams past and while Â is found.
    """

    def __init__(self, rows: int, columns: int, size: int, rng: Generator, like: Tensor) -> None:
        self._like, self._core_size = like, 2 * size + 1
        self._seeds = torch.randint(2**32, (2,), generator=rng).tolist()
        self._drawing = self._generator(0)
        with category("sketch"):
            self._left = like.new_zeros(size, columns)  # X
            self._right = like.new_zeros(rows, size)  # Y
            self._core = like.new_zeros(self._core_size, self._core_size)  # Z
            self._columns = self._projections()
        self._seen = 0

    def keep(self, row: Tensor) -> None:
        """Take in the next row (n,)."""
        assert self._columns is not None
        omega, psi = self._columns  # (n, k), (s, n)
        up, down = self._drawn(self._drawing)
        self._left += torch.outer(up, row)
        self._right[self._seen] = row @ omega
        self._core += torch.outer(down, psi @ row)
        self._seen += 1
        if self._seen == len(self._right):
            self._columns = None

    def backwards(self) -> Iterator[Tensor]:
        """Yield the rows (n,) of Â from the last to the first."""
        basis = torch.linalg.qr(self._left.mT)[0]  # P (n, k)
        yield from (row @ basis.mT for row in self._coordinates(basis).flip(0))

    def numbers(self) -> int:
        """Return how many numbers the three sketches have."""
        return self._left.numel() + self._right.numel() + self._core.numel()

    def _coordinates(self, basis: Tensor) -> Tensor:
        """Return QC (T, k): the rows of Â in the basis P (n, k)."""
        range_, again = torch.linalg.qr(self._right)[0], self._generator(0)
        down = sum(torch.outer(self._drawn(again)[1], row) for row in range_)  # ΦQ (s, k)
        assert isinstance(down, Tensor)
        half = least_squares(down, self._core)
        core = least_squares(self._projections()[1] @ basis, half.mT).mT
        return range_ @ core

    def _generator(self, index: int) -> Generator:
        return Generator().manual_seed(self._seeds[index])

    def _drawn(self, rng: Generator) -> tuple[Tensor, Tensor]:
        """Return the next columns of Υ (k,) and Φ (s,)."""
        sizes = [self._right.shape[1], self._core_size]
        drawn = torch.randn(sum(sizes), generator=rng, dtype=self._like.dtype)
        up, down = drawn.to(self._like.device).split(sizes)
        return up, down

    def _projections(self) -> tuple[Tensor, Tensor]:
        """Return Ω (n, k) and Ψ (s, n)."""
        rng, (size, columns) = self._generator(1), self._left.shape
        omega = torch.randn(columns, size, generator=rng, dtype=self._like.dtype)
        psi = torch.randn(self._core_size, columns, generator=rng, dtype=self._like.dtype)
        return omega.to(self._like.device), psi.to(self._like.device)
