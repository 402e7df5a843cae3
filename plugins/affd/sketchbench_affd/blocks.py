"""What `block-affd` builds: a linear map that reads a vector block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from sketchbench.linalg import (
    Workspace,
    block_fold,
    block_unfold,
    blocks_at_once,
    expect_length,
    normals,
    padded,
    permutation,
    signs,
    stream,
)

METHOD = "block-affd"  # part of what a seed means
FOLDED = 16  # entries to one of the sketch, at the least, in the last block
VECTORS = 64  # of a batch, sketched together: what is regenerated serves them all


@dataclass(frozen=True)
class Segment:
    """Blocks that share an order M: entries start … stop of the vector."""

    start: int
    stop: int
    order: int
    first: int  # index of its first block

    @property
    def blocks(self) -> int:
        """How many there are."""
        return -(-(self.stop - self.start) // self.order)

    @property
    def block_length(self) -> int:
        """Entries of the vector in its longest block."""
        return min(self.order, self.stop - self.start)


@dataclass(frozen=True)
class Piece:
    """Entries low … high of a vector, in blocks of which the first begins at `begin`."""

    begin: int
    low: int
    high: int
    signs: Tensor  # (high − low,), int8
    gaussians: Tensor  # (blocks, M)


def segments(size: int, out_size: int, block_size: int) -> list[Segment]:
    """Cut a vector into full blocks, and a last one of the least order that holds what is left.

    But of 16·D at the least (where blocks are as large): κ grows as D/M. No block is below D.
    """
    block_size = max(block_size, out_size)
    whole, rest = divmod(size, block_size)
    order = max(min(block_size, FOLDED * out_size), padded(rest)) if rest else block_size
    if order == block_size:
        return [Segment(0, size, block_size, 0)]
    cut = size - rest
    last = Segment(cut, size, order, whole)
    return [Segment(0, cut, block_size, 0), last] if whole else [last]


class BlockSketch:
    """y = fold_D(P Σ_b G_b H_M B_b x_b); blocks that differ in M have a P and a sum of their own.

    float64 is computed in float64, everything else in float32 and rounded once. Each block is drawn
    from (seed, method, index), so regenerated ones are the stored ones to the bit.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        seed: int,
        device: torch.device,
        *,
        block_size: int,
        permuted: bool = True,
        regenerate: bool = False,
        kernel: Literal["auto", "torch", "compiled"] = "auto",
    ) -> None:
        """Draw the permutations on the CPU, and the blocks unless they are regenerated."""
        self.shape = shape
        self.device = device
        self.kernel = kernel
        self._seed = seed
        self._segments = segments(shape[1], shape[0], block_size)
        self._places = {  # of each order: entry j of the permuted sum is entry places[j]
            part.order: self._place(part.order) for part in self._segments if permuted
        }
        self._held = None if regenerate else [self._drawn_all(part) for part in self._segments]

    def apply(self, x: Tensor) -> Tensor:
        """Map x (..., N) to Sx (..., D)."""
        expect_length("block-affd", x, self.shape[1])
        dtype = torch.promote_types(x.dtype, torch.float32)
        product = x.new_zeros(*x.shape[:-1], self.shape[0], dtype=dtype)
        self.accumulate(product, x, 0)
        return product.to(x.dtype)

    def accumulate(self, product: Tensor, x: Tensor, start: int) -> None:
        """Add to `product` (..., D) the image of entries `start` … of a vector: x (..., n)."""
        if start < 0 or start + x.shape[-1] > self.shape[1]:
            raise ValueError(
                f"block-affd: entries {start} to {start + x.shape[-1]} aren't all within the "
                f"vector's {self.shape[1]}"
            )
        if not x.shape[-1]:  # a parameter without entries
            return
        vectors, images = x.reshape(-1, x.shape[-1]), product.view(-1, self.shape[0])
        for first in range(0, len(vectors), VECTORS):
            some = slice(first, first + VECTORS)
            for index, part in enumerate(self._segments):
                total = self._sum(vectors[some], start, index)
                if total is not None:
                    images[some].add_(self._folded(total, part.order))

    def adjoint(self, y: Tensor) -> Tensor:
        """Map y (..., D) to Sᵀy (..., N)."""
        expect_length("block-affd", y, self.shape[0])
        images = y.reshape(-1, self.shape[0])
        found, space = y.new_empty(len(images), self.shape[1]), Workspace()
        for first in range(0, len(images), VECTORS):
            some = slice(first, first + VECTORS)
            wide = images[some].to(torch.promote_types(y.dtype, torch.float32))
            for index, part in enumerate(self._segments):
                spread = self._unfolded(wide, part.order)
                many = blocks_at_once(self.device, part.order, len(wide))
                for piece in self._pieces(index, 0, self.shape[1], many):
                    drawn = piece.signs, piece.gaussians
                    block = block_unfold(spread, *drawn, None, space, kernel=self.kernel)
                    found[some, piece.low : piece.high] = block.to(y.dtype)
        return found.view(*y.shape[:-1], self.shape[1])

    def conditional_kappa(self, x: Tensor) -> float:
        """Return D·Var‖Sx‖²/2 over the Gaussians alone, of x/‖x‖ for x (N,): D·Σ_c S_c²."""
        energies = torch.zeros(self.shape[0], dtype=torch.float64, device=self.device)
        for index, part in enumerate(self._segments):
            squares = energies.new_zeros(1, part.order)
            for piece in self._pieces(index, 0, self.shape[1]):
                image = torch.zeros_like(squares)
                ones = replace(piece, gaussians=torch.ones_like(piece.gaussians))
                self._fold(x[None, piece.low : piece.high].double(), ones, image, Workspace())
                squares += image.square()
            energies += self._folded(squares, part.order)[0]
        return float(self.shape[0] * (energies / energies.sum()).square().sum())

    def _sum(self, rows: Tensor, start: int, index: int) -> Tensor | None:
        """Return Σ_b G_b H B_b x_b (n, M) over what rows (n, …) hold of a segment, or None."""
        total: Tensor | None = None
        wide = torch.promote_types(rows.dtype, torch.float32)
        stop, part = start + rows.shape[1], self._segments[index]
        space = Workspace()
        if rows.dtype == wide:
            many = part.blocks
        else:  # what is widened is a copy
            many = blocks_at_once(self.device, part.order, len(rows))
        for piece in self._pieces(index, start, stop, many):
            if total is None:
                total = rows.new_zeros(len(rows), part.order, dtype=wide)
            self._fold(
                rows[:, piece.low - start : piece.high - start].to(wide), piece, total, space
            )
        return total

    def _fold(self, x: Tensor, piece: Piece, total: Tensor, space: Workspace) -> None:
        before = piece.low - piece.begin
        drawn = piece.signs, piece.gaussians
        block_fold(x, *drawn, total, None, space, start=before, kernel=self.kernel)

    def _pieces(self, index: int, start: int, stop: int, many: int = 1) -> Iterator[Piece]:
        """Yield what entries start … stop have of a segment, `many` blocks at a time.

        One by one where they aren't stored.
        """
        part = self._segments[index]
        low, end = max(start, part.start), min(stop, part.stop)
        while low < end:
            block = (low - part.start) // part.order
            begin = part.start + block * part.order
            high = min(begin + part.order * (many if self._held is not None else 1), end)
            if self._held is None:
                sign, gaussians = self._drawn(part, block)
                sign = sign[low - begin : high - begin]
            else:
                sign, gaussians = self._held[index]
                sign = sign[low - part.start : high - part.start]
                gaussians = gaussians[block : -(-(high - part.start) // part.order)]
            yield Piece(begin, low, high, sign, gaussians)
            low = high

    def _drawn(self, part: Segment, block: int) -> tuple[Tensor, Tensor]:
        """Draw one block of a segment: signs (n,) of its entries, Gaussians (1, M)."""
        rng = stream(self._seed, METHOD, part.first + block)
        length = min(part.order, part.stop - part.start - block * part.order)
        drawn = signs(rng, length), normals(rng, 1, part.order)
        return drawn[0].to(self.device), drawn[1].to(self.device)

    def _drawn_all(self, part: Segment) -> tuple[Tensor, Tensor]:
        """Draw a segment: signs (n,), Gaussians (blocks, M)."""
        sign = torch.empty(part.stop - part.start, dtype=torch.int8, device=self.device)
        gaussians = torch.empty(part.blocks, part.order, device=self.device)
        for block, rows in enumerate(sign.split(part.order)):
            drawn, gaussians[block : block + 1] = self._drawn(part, block)
            rows.copy_(drawn)
        return sign, gaussians

    def _folded(self, total: Tensor, order: int) -> Tensor:
        """Return fold_D(P z) for z (n, M): (n, D)."""
        if order in self._places:
            total = total.index_select(-1, self._places[order])
        return total.view(len(total), -1, self.shape[0]).sum(1)

    def _unfolded(self, y: Tensor, order: int) -> Tensor:
        """Return the adjoint of folding, for y (n, D): (n, M)."""
        spread = y.repeat(1, order // self.shape[0])
        if order in self._places:
            spread = torch.empty_like(spread).index_copy_(1, self._places[order].long(), spread)
        return spread

    def _place(self, order: int) -> Tensor:
        rng = stream(self._seed, f"{METHOD} permutation", order)
        return permutation(rng, order).to(self.device, torch.int32)
