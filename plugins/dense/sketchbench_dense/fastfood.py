"""Fastfood, whose transpose is no sketch of gradients, and its repair."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import field_validator
from torch import Generator, Tensor

from sketchbench import Field, GradientSketch, Guarantee, LinearSketch
from sketchbench.linalg import expect_length, fwht, normals, seed_of, signs, stream

TILE = 2**16  # coordinates drawn from one seed, at most; part of what a seed means
GENERIC = 9.0  # κ of ffd on outer products of Gaussians that fill one block, in the mean
OUT_SIZE = "D, length of the sketch and of a block: a power of two."


class _Blocks(GradientSketch):
    """What the two recipes share."""

    out_size: int = Field(256, ge=1, description=OUT_SIZE)

    @field_validator("out_size")
    @classmethod
    def _is_a_power_of_two(cls, value: int) -> int:
        if value & (value - 1):
            raise ValueError(f"{value} is no power of two, of which Hadamard matrices are made")
        return value

    def _length(self, size: int) -> int:
        """Return N, padded to whole blocks."""
        return -(-size // self.out_size) * self.out_size


class Fastfood(_Blocks):
    """Fastfood features of N/D blocks, transposed: Φx = Σ_b B_b H Π_b G_b H x_b. Not a sketch.

    [Le, Sarlós & Smola 2013; Li et al. 2018; transposed in Schioppa 2024, C.4.] x_b are blocks of
    D entries, H the orthonormal Hadamard matrix of order D, B signs, G Gaussians, Π permutations.

    No sign meets x before H: where x_b is a column of H, H x_b has one entry and ‖Φx‖² = g² for one
    Gaussian g, whatever D is. [Schioppa 2024, Theorem C.1] Over B and G, with h_b = H x_b,
    D·Var‖Φx‖²/2 = 1 + Σ_b (D·‖h_b‖₄⁴ − ‖x_b‖⁴). That is D on such a column, the most there is;
    1 + (D − 1)·D/N on ones, where D divides N: like N/D Gaussians, however large D; up to 3 on
    Gaussian vectors and up to 3² on their outer products, in the mean, and in one block. Such are
    the inputs that it promises a κ of 9 for; near a column no number below D holds.

    O(N log D) time; 9 bytes a coordinate. Sums tiles of at most 2¹⁶ entries (or one block).
    Differs from the paper: 1. N needn't be a multiple of D: the last block is padded with zeros.
    """

    name = "ffd"

    def build(self, size: int, rng: Generator, device: torch.device) -> LinearSketch:
        """Draw B, Π and G for blocks of D."""
        return Folded((self.out_size, size), (self.name, seed_of(rng)), device, signed=False)

    def guarantee(self, size: int) -> Guarantee:
        """Return the columns of H as what breaks it, and for the rest what GENERIC says."""
        worst = {"column": float(self.out_size), "ones": self._kappa_of_ones(size)}
        if size < self.out_size:
            del worst["column"]
        return Guarantee(GENERIC, tuple(name for name, kappa in worst.items() if kappa > GENERIC))

    def state_bytes(self, size: int) -> int:
        """Return the bytes of a sign, a Gaussian and a place for each padded coordinate."""
        return 9 * self._length(size)

    def _kappa_of_ones(self, size: int) -> float:
        """Return D·Var‖Φx‖²/2 of x = 1/√N, exactly."""
        order = self.out_size
        whole, rest = divmod(size, order)
        last = torch.zeros(order, dtype=torch.float64)
        last[:rest] = 1
        fourth = order * float(fwht(last).pow(4).sum()) - rest**2
        return 1 + (whole * (order - 1) * order**2 + fourth) / size**2


class SignedFastfood(_Blocks):
    """Fastfood with signs B′ on the side of the input: Φx = Σ_b B_b H Π_b G_b H B′_b x_b.

    What makes `ffd` a sketch: E‖H B′x_b‖₄⁴ = (3‖x_b‖⁴ − 2‖x_b‖₄⁴)/D, so that
    D·Var‖Φx‖²/2 = 1 + 2·Σ_b (‖x_b‖⁴ − ‖x_b‖₄⁴) ≤ 3 − 2/min(D, N), reached by a flat block.

    O(N log D) time; 10 bytes a coordinate. Sums tiles of at most 2¹⁶ entries (or one block).
    Differs from the paper: 1. B′, which it doesn't have. 2. The last block is padded with zeros.
    """

    name = "ffd-signed"

    def build(self, size: int, rng: Generator, device: torch.device) -> LinearSketch:
        """Draw B, Π, G and B′ for blocks of D."""
        return Folded((self.out_size, size), (self.name, seed_of(rng)), device, signed=True)

    def guarantee(self, size: int) -> Guarantee:
        """Promise κ ≤ 3 − 2/min(D, N) of every vector."""
        return Guarantee(kappa=3 - 2 / min(self.out_size, size))

    def state_bytes(self, size: int) -> int:
        """Return the bytes of two signs, a Gaussian and a place for each padded coordinate."""
        return 10 * self._length(size)


class Folded:
    """Φ (D, N), a sum over blocks of D coordinates, streamed.

    What is narrower than float32 is computed in float32 and rounded once.
    """

    def __init__(
        self, shape: tuple[int, int], origin: tuple[str, int], device: torch.device, signed: bool
    ) -> None:
        """Take the name and the seed that all is drawn from as `origin`."""
        self.shape = shape
        self._name = origin[0]
        order, count = shape[0], -(-shape[1] // shape[0])
        self._step = max(1, TILE // order)  # blocks in a tile
        spans = [min(self._step, count - low) for low in range(0, count, self._step)]
        drawn = [_drawn(origin, tile, n, order, signed) for tile, n in enumerate(spans)]
        after, gauss, places, before = zip(*drawn, strict=True)
        self._after = torch.cat(after).to(device)  # B (blocks, D) int8
        self._gauss = torch.cat(gauss).to(device)  # G (blocks, D) float32
        self._places = torch.cat(places).to(device)  # Π: the place that entry c comes from, int32
        self._before = torch.cat(before).to(device) if signed else None  # B′ (blocks, D) int8

    def apply(self, x: Tensor) -> Tensor:
        """Map x (..., N) to Φx (..., D)."""
        expect_length(self._name, x, self.shape[1])
        wide = torch.promote_types(x.dtype, torch.float32)
        product = x.new_zeros(*x.shape[:-1], self.shape[0], dtype=wide)
        self.accumulate(product, x, 0)
        return product.to(x.dtype)

    def accumulate(self, product: Tensor, x: Tensor, start: int) -> None:
        """Add to `product` (..., D) the image of entries `start` … of a vector: x (..., n)."""
        for part, blocks in self._spread(x, start, product.dtype):
            y = fwht(part) * self._gauss[blocks]
            y = fwht(y.gather(-1, self._places[blocks].long().expand_as(y)))
            product += (y * self._after[blocks]).sum(-2)

    def adjoint(self, y: Tensor) -> Tensor:
        """Map y (..., D) to Φᵀy (..., N)."""
        expect_length(self._name, y, self.shape[0])
        wide = y.to(torch.promote_types(y.dtype, torch.float32)).unsqueeze(-2)
        order, size = self.shape
        product = y.new_empty(*y.shape[:-1], size)
        for low in range(0, len(self._after), self._step):
            blocks = slice(low, low + self._step)
            z = fwht(wide * self._after[blocks])
            places = self._places[blocks].long().expand_as(z)
            z = fwht(torch.empty_like(z).scatter_(-1, places, z) * self._gauss[blocks])
            if self._before is not None:
                z = z * self._before[blocks]
            first = low * order
            z = z.flatten(-2)[..., : size - first]
            product[..., first : first + z.shape[-1]] = z.to(y.dtype)
        return product

    def conditional_kappa(self, x: Tensor) -> float:
        """Return D·Var‖Φx‖²/2 over the Gaussians alone, for x (N,) scaled to norm 1: exact.

        E‖Φx‖² over them is 1, so the mean over all else is the whole κ. y = Φx has the covariance
        C_ij = Σ_b B_b,i B_b,j ŝ_b,i⊕j/√D, where ŝ_b = H Π_b (H B′x_b)². O(N·D) time.
        """
        order = self.shape[0]
        x = x.double() / x.double().norm()
        places = torch.arange(order, device=x.device)
        offsets = places[:, None] ^ places  # i⊕j
        covariance = x.new_zeros(order, order)
        few = max(1, TILE // order**2)
        for part, blocks in self._spread(x, 0, torch.float64):
            spectra = fwht(fwht(part).square().gather(-1, self._places[blocks].long()))
            signed = self._after[blocks].double()
            for some, sign in zip(spectra.split(few), signed.split(few), strict=True):
                covariance += torch.einsum("bij,bi,bj->ij", some[:, offsets], sign, sign)
        return float(covariance.square().sum())  # D·Σ C², D against the 1/√D of each factor

    def _spread(self, x: Tensor, start: int, dtype: torch.dtype) -> Iterator[tuple[Tensor, slice]]:
        """Yield the blocks that x (..., n) reaches, a tile at a time, with their numbers.

        Each as (..., blocks, D), zeros around, under the signs of the input.
        """
        order, size = self.shape
        stop = start + x.shape[-1]
        if not 0 <= start <= stop <= size:
            raise ValueError(f"{self._name}: entries {start} … {stop} of a vector of {size}")
        for low in range(start // order, -(-stop // order), self._step):
            high = min(low + self._step, -(-stop // order))
            first, last = max(low * order, start), min(high * order, stop)
            part = x[..., first - start : last - start].to(dtype)
            part = F.pad(part, (first - low * order, high * order - last))
            part = part.unflatten(-1, (high - low, order))
            blocks = slice(low, high)
            yield part if self._before is None else part * self._before[blocks], blocks


def _drawn(
    origin: tuple[str, int], tile: int, count: int, order: int, signed: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw B, G, Π and (for the signed form) B′ of the blocks of one tile: (count, order) each."""
    rng = stream(origin[1], origin[0], tile)
    after = signs(rng, count * order).view(count, order)
    gauss = normals(rng, count, order)
    in_order = np.tile(np.arange(order, dtype=np.int32), (count, 1))
    places = torch.from_numpy(rng.permuted(in_order, axis=1, out=in_order))
    before = signs(rng, count * order).view(count, order) if signed else after
    return after, gauss, places, before
