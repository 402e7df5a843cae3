"""Readings that keep a few rows of the activations, drawn by their norms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from sketchbench.measure import category
from sketchbench_tri_sketch.draws import Drawing, wide
from sketchbench_tri_sketch.reading import Reading
from sketchbench_tri_sketch.recipes import RankSketch


class CRS(RankSketch):
    """Keep k rows of A, drawn with replacement with p ∝ ‖aᵢ‖: ĝ = Σ δᵢaᵢᵀ/(k·pᵢ). Unbiased.

    Column-row sampling. [Drineas, Kannan & Mahoney 2006; for training Adelman et al. 2021]
    Where it differs: the p of least variance are ∝ ‖δᵢ‖‖aᵢ‖, and δ isn't known in the forward
    pass. No matrix is multiplied, and no QR is computed.
    """

    name = "crs"

    def reading(
        self, width_in: int, width_out: int, batch_rows: int | None, rng: Generator
    ) -> Reading:
        """Return the sample of one layer's rows."""
        return _Sampled(self.k, rng)

    def break_even(self, width: int) -> int | None:
        """Return the rows from which k rows, their numbers and their weights are less."""
        return rows_above(4 * self.k * width + 8 * self.k, width)


class WTACRS(RankSketch):
    """Keep the c likeliest rows of A as they are, and draw k − c of the rest. Unbiased.

    Winner-take-all column-row sampling: c is what leaves the least probability to each draw.
    [Liu et al. 2023, arXiv 2305.15265] Where it differs:

    1. p ∝ ‖aᵢ‖, where the paper has ‖aᵢ‖‖δᵢ‖ with the norms of δ from the epoch before: it would
       have to be told which example is which.
    2. A batch of no more than k rows is kept as it is: exact.
    """

    name = "wta-crs"

    def reading(
        self, width_in: int, width_out: int, batch_rows: int | None, rng: Generator
    ) -> Reading:
        """Return the sample of one layer's rows."""
        return _Winners(self.k, rng)

    def break_even(self, width: int) -> int | None:
        """Return the rows from which k rows, their numbers and their weights are less."""
        return rows_above(4 * self.k * width + 8 * self.k, width)


def rows_above(fixed_bytes: int, width: int, row_bytes: float = 0.0) -> int | None:
    """Return the least n with fixed + n·row bytes, and n·d bits for ReLU, below n·d in float32."""
    saved = 4 * width - width / 8 - row_bytes  # a row
    return int(fixed_bytes / saved) + 1 if saved > 0 else None


class _Sampled(Drawing):
    """k rows (k, d), their numbers (k,) and their weights 1/(k·p) (k,)."""

    method = "crs"

    def __init__(self, size: int, rng: Generator) -> None:
        super().__init__(rng)
        self.size = size

    def keep(self, rows: Tensor, outputs: Tensor | None, update: bool) -> tuple[list[Tensor], None]:
        with category("sketch"):
            shares = probabilities(rows)
            drawn = self.uniform(1, self.size, self.turn(update), shares)
            chosen, weights = self._chosen(shares, drawn[0])
            return [rows[chosen], chosen.int(), weights], None

    def gradient(self, delta: Tensor, kept: Any, note: Any) -> Tensor:
        rows, chosen, weights = kept
        scaled = delta.index_select(0, chosen).to(weights.dtype) * weights[:, None]
        product: Tensor = scaled.mT @ rows.to(weights.dtype)
        return product

    def _chosen(self, shares: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Return the numbers (k,) of rows and their weights (k,), by uniform numbers (k,)."""
        cumulative = shares.cumsum(0)
        chosen = _position(cumulative, drawn * cumulative[-1])
        return chosen, 1 / (self.size * _positive(shares[chosen]))


class _Winners(_Sampled):
    method = "wta-crs"

    def _chosen(self, shares: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        size = min(self.size, len(shares))
        slots = torch.arange(size, device=shares.device)
        if size == len(shares):
            return slots, torch.ones_like(shares)
        ordered, order = shares.sort(descending=True, stable=True)
        above = torch.cat(
            [shares.new_zeros(1), ordered.cumsum(0)]
        )  # above[c]: share of the first c
        rest = (above[-1] - above[:size]).clamp_min(0)
        winners = (rest / (size - slots)).argmin(0, keepdim=True)  # c, as a tensor
        left = rest[winners]
        places = _position(above[1:], above[winners] + drawn * left).maximum(winners)
        places = torch.where(slots < winners, slots, places)
        draws = (size - winners) * _positive(ordered[places])
        return order[places], torch.where(slots < winners, 1.0, left / draws)


def probabilities(rows: Tensor) -> Tensor:
    """Return p (n,) ∝ ‖aᵢ‖ in float32 at least; the same for every row where all are zero."""
    norms = torch.linalg.vector_norm(rows, dim=1, dtype=wide(rows.dtype))
    norms = norms + torch.finfo(norms.dtype).tiny
    shares: Tensor = norms / norms.sum()
    return shares


def _position(cumulative: Tensor, values: Tensor) -> Tensor:
    """Return the first place in `cumulative` (n,) that is above each value, or reaches its end."""
    last = torch.searchsorted(cumulative, cumulative[-1:])  # what follows has no share
    return torch.searchsorted(cumulative, values, right=True).minimum(last)


def _positive(shares: Tensor) -> Tensor:
    return shares.clamp_min(torch.finfo(shares.dtype).tiny)
