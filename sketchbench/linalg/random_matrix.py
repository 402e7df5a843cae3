"""Dense random matrices that are never held whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor

from sketchbench.linalg.lengths import expect_length

TILE = 2**14  # entries drawn from one seed; part of what a seed means, so never an option


class RandomMatrix:
    """A dense random matrix S (D, N), scaled by 1/√D, that is drawn anew for each product.

    S is drawn in tiles of whole columns, on the CPU in float32, each from a seed of its own, so
    one seed is one matrix on every device and for every `chunk`. A product holds `chunk` entries
    of S at a time (one tile at the least), never D·N. Vectors narrower than float32 are
    multiplied in float32, and the result is rounded once.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        seed: int,
        fill: Callable[[Tensor, Generator], Tensor],
        device: torch.device,
        chunk: int = 2**20,
    ) -> None:
        """Take `fill(tile, generator)`, which fills a tile in place with unit-variance entries."""
        self.shape = shape
        self.device = device
        self._fill = fill
        self._first = _mixed(seed ^ seed >> 32)  # seeds counted 0, 1, 2, … are far apart
        self._columns = max(1, TILE // shape[0])  # of S in a tile
        self._tiles = max(1, chunk // (self._columns * shape[0]))  # held at a time

    def apply(self, x: Tensor) -> Tensor:
        """Map x (..., N) to Sx (..., D)."""
        expect_length("random matrix", x, self.shape[1])
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        product = wide.new_zeros(*x.shape[:-1], self.shape[0])
        for columns, rows in self._drawn(wide.dtype):
            product += wide[..., columns] @ rows
        return product.mul_(self.shape[0] ** -0.5).to(x.dtype)

    def adjoint(self, y: Tensor) -> Tensor:
        """Map y (..., D) to Sᵀy (..., N)."""
        expect_length("random matrix", y, self.shape[0])
        wide = y.to(torch.promote_types(y.dtype, torch.float32)) * self.shape[0] ** -0.5
        product = y.new_empty(*y.shape[:-1], self.shape[1])
        for columns, rows in self._drawn(wide.dtype):
            product[..., columns] = (wide @ rows.mT).to(y.dtype)
        return product

    def _drawn(self, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
        """Yield chunks of columns of S, unscaled, as rows (n, D) on the device."""
        size, height = self.shape[1], self.shape[0]
        step = self._tiles * self._columns
        drawn = torch.empty(min(step, size), height)
        generator = Generator()
        for start in range(0, size, step):
            stop = min(start + step, size)
            rows = drawn[: stop - start]
            for index, tile in enumerate(torch.split(rows, self._columns), start // self._columns):
                self._fill(tile, generator.manual_seed(_mixed(self._first + index)))
            yield slice(start, stop), rows.to(self.device, dtype)


def _mixed(counter: int) -> int:
    """Scramble a counter to 32 bits; one to one, so no two tiles of a matrix share a seed.

    torch's CPU generator reads the low 32 bits of its seed and no others. [MurmurHash3, fmix32]
    """
    counter &= 0xFFFFFFFF
    counter = (counter ^ counter >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    counter = (counter ^ counter >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return counter ^ counter >> 16
