"""Sketches by hashing: every coordinate is added, with a sign, to a few entries of the sketch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

import torch
from pydantic import model_validator
from torch import Generator, Tensor

from sketchbench import Field, GradientSketch, Guarantee, LinearSketch
from sketchbench.linalg import expect_length, seed_of, signs, stream

TILE = 2**16  # coordinates drawn from one seed; part of what a seed means, so never an option
WIDE = 64  # tiles at a time on a GPU, where a tile takes less time than its launch
OUT_SIZE = "D, length of the sketch."
REGENERATE = "Draw signs and buckets anew for each product, instead of holding 5 bytes of each."


class CountSketch(GradientSketch):
    """One ±1 in each column, in a row drawn at random. [Charikar, Chen & Farach-Colton 2002]

    D·Var‖Sx‖²/2 = 1 − ‖x‖₄⁴ for a unit vector x: independent buckets agree with a chance of 1/D,
    so Var‖Sx‖² = 2·Σ_{i≠j} xᵢ²xⱼ²/D. Thus κ ≤ 1, as for a dense matrix, but the chance of failure
    isn't exponentially small in D: (eᵢ + eⱼ)/√2 goes to norm² 0 or 2 with a chance of 1/D.

    O(N) time; 5·N bytes, or none. One read of x, in pieces of 2¹⁶ entries. On a GPU the sums are
    atomic: equal to rounding, not to the bit.
    Differs from the paper: 1. Signs and buckets are independent, not of a pairwise family.
    """

    name = "count-sketch"
    out_size: int = Field(256, ge=1, description=OUT_SIZE)
    regenerate: bool = Field(False, description=REGENERATE)

    def build(self, size: int, rng: Generator, device: torch.device) -> LinearSketch:
        """Draw the seed of S (D, size), and its signs and buckets where they are held."""
        return Hashed((self.out_size, size), 1, (self.name, seed_of(rng)), device, self.regenerate)

    def guarantee(self, size: int) -> Guarantee:
        """Promise κ ≤ 1 of every vector."""
        return Guarantee(kappa=1.0)

    def state_bytes(self, size: int) -> int:
        """Return the bytes of a sign and a bucket a coordinate."""
        return 0 if self.regenerate else 5 * size


class SJLT(GradientSketch):
    """s entries ±1/√s in each column, one in each of s equal stretches. [Kane & Nelson 2014]

    The rows of a column are distinct: this is their block construction, s Count-Sketches to D/s
    entries one above the other. Each has Var‖Sx‖² = 2(1 − ‖x‖₄⁴)/(D/s), so their mean has
    D·Var‖Sx‖²/2 = 1 − ‖x‖₄⁴ ≤ 1, whatever s is: s buys smaller tails, not a smaller variance.

    O(s·N) time; 5·s·N bytes, or none. On a GPU sums are equal to rounding, not to the bit.
    Differs from the paper: 1. Signs and rows are independent, not of a log D-wise family.
    """

    name = "sjlt"
    out_size: int = Field(256, ge=1, description=OUT_SIZE + " A multiple of `nonzeros`.")
    nonzeros: int = Field(4, ge=1, description="s, the entries of a column that aren't zero.")
    regenerate: bool = Field(False, description=REGENERATE)

    @model_validator(mode="after")
    def _stretches_are_equal(self) -> Self:
        if self.out_size % self.nonzeros:
            raise ValueError(f"out_size {self.out_size} is no multiple of nonzeros {self.nonzeros}")
        return self

    def build(self, size: int, rng: Generator, device: torch.device) -> LinearSketch:
        """Draw the seed of S (D, size), and its signs and rows where they are held."""
        origin = (self.name, seed_of(rng))
        return Hashed((self.out_size, size), self.nonzeros, origin, device, self.regenerate)

    def guarantee(self, size: int) -> Guarantee:
        """Promise κ ≤ 1 of every vector."""
        return Guarantee(kappa=1.0)

    def state_bytes(self, size: int) -> int:
        """Return the bytes of s signs and s rows a coordinate."""
        return 0 if self.regenerate else 5 * self.nonzeros * size


class Hashed:
    """S (D, N) with `nonzeros` entries of one size in each column, streamed.

    What is narrower than float32 is summed in float32 and rounded once.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        nonzeros: int,
        origin: tuple[str, int],
        device: torch.device,
        regenerate: bool,
    ) -> None:
        """Take the name and the seed that all is drawn from as `origin`."""
        self.shape = shape
        self._nonzeros = nonzeros
        self._origin = origin
        self._device = device
        self._signs: Tensor | None = None  # (s, N) int8
        self._rows: Tensor | None = None  # (s, N) int32, of S
        if not regenerate:
            drawn = [self._drawn(tile) for tile in range(-(-shape[1] // TILE))]
            self._signs = torch.cat([sign for sign, _ in drawn], 1).to(device)
            self._rows = torch.cat([rows for _, rows in drawn], 1).to(device)

    def apply(self, x: Tensor) -> Tensor:
        """Map x (..., N) to Sx (..., D)."""
        expect_length(self._origin[0], x, self.shape[1])
        wide = torch.promote_types(x.dtype, torch.float32)
        product = x.new_zeros(*x.shape[:-1], self.shape[0], dtype=wide)
        self.accumulate(product, x, 0)
        return product.to(x.dtype)

    def accumulate(self, product: Tensor, x: Tensor, start: int) -> None:
        """Add to `product` (..., D) the image of entries `start` … of a vector: x (..., n)."""
        batch = product.shape[:-1].numel()
        held = product.contiguous().view(batch, self.shape[0])
        for span, sign, rows in self._spans(start, start + x.shape[-1]):
            values = x[..., span].to(held.dtype).reshape(batch, rows.shape[1])
            for layer in range(self._nonzeros):
                scaled = values * sign[layer]
                if self._nonzeros > 1:
                    scaled *= self._nonzeros**-0.5
                _add_at(held, rows[layer], scaled)
        if not product.is_contiguous():
            product.copy_(held.view(product.shape))

    def adjoint(self, y: Tensor) -> Tensor:
        """Map y (..., D) to Sᵀy (..., N)."""
        expect_length(self._origin[0], y, self.shape[0])
        wide = y.to(torch.promote_types(y.dtype, torch.float32)) * self._nonzeros**-0.5
        product = y.new_empty(*y.shape[:-1], self.shape[1])
        for span, sign, rows in self._spans(0, self.shape[1]):
            total = wide.index_select(-1, rows[0]) * sign[0]
            for layer in range(1, self._nonzeros):
                total += wide.index_select(-1, rows[layer]) * sign[layer]
            product[..., span] = total.to(y.dtype)
        return product

    def _spans(self, start: int, stop: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield stretches of start … stop, counted from `start`, with signs and rows (s, n)."""
        size = self.shape[1]
        if not 0 <= start <= stop <= size:
            raise ValueError(f"{self._origin[0]}: entries {start} … {stop} of a vector of {size}")
        if start == stop:
            return
        whole = self._signs is not None and self._device.type != "cpu"
        step = TILE * WIDE if whole else TILE
        for low in range(start // step * step, stop, step):
            first, last = max(low, start), min(low + step, stop)
            if self._signs is None or self._rows is None:
                sign, rows = (t.to(self._device) for t in self._drawn(low // TILE))
                part = slice(first - low, last - low)
            else:
                sign, rows, part = self._signs, self._rows, slice(first, last)
            yield slice(first - start, last - start), sign[:, part], rows[:, part]

    def _drawn(self, tile: int) -> tuple[Tensor, Tensor]:
        """Draw the signs (s, n) and the rows (s, n) of a tile, on the CPU."""
        count, size = self._nonzeros, min(TILE, self.shape[1] - tile * TILE)
        stretch = self.shape[0] // count
        rng = stream(self._origin[1], self._origin[0], tile)
        sign = signs(rng, count * size).view(count, size)
        rows = torch.from_numpy(rng.integers(stretch, size=(count, size), dtype="int32"))
        return sign, rows.add_(torch.arange(count, dtype=torch.int32)[:, None] * stretch)


def _add_at(product: Tensor, rows: Tensor, values: Tensor) -> None:
    """Add values (batch, n) to the entries rows (n,) of `product` (batch, D)."""
    batch, out = product.shape
    if product.device.type != "cpu":
        product.index_add_(1, rows, values)
        return
    # on the CPU an index of a one-dimensional sum takes a third of the time of one of a batch
    step = max(1, TILE // values.shape[1])
    for low in range(0, batch, step):
        part = values[low : low + step]
        if len(part) == 1:
            product[low].index_add_(0, rows, part[0])
        else:
            starts = torch.arange(low, low + len(part))[:, None] * out
            product.view(-1).index_add_(0, (starts + rows).view(-1), part.reshape(-1))
