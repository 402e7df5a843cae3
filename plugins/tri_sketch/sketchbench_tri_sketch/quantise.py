"""Quantisation: activations in two, four or eight bits, row by row."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from sketchbench import Field
from sketchbench.measure import category
from sketchbench_tri_sketch.draws import Drawing, wide
from sketchbench_tri_sketch.reading import Reading
from sketchbench_tri_sketch.recipes import LayerSketch
from sketchbench_tri_sketch.rows import rows_above


class Quantise(LayerSketch):
    """Keep each row in a few bits an entry, between its least and its greatest value.

    [ActNN: Chen et al. 2021; GACT: Liu et al. 2022] Stochastic rounding is unbiased and off by a
    step at most, nearest by half a step. Where it differs:

    1. Ranges are of rows, in float32; ActNN's are of groups of 256 entries, in bfloat16.
    2. Every layer has the same number of bits; ActNN shares them out by sensitivity.
    3. The backward pass makes a dense Â (n, d), one layer at a time.
    """

    name = "quantise"
    bits: Literal[2, 4, 8] = Field(4, description="Bits an entry.")
    rounding: Literal["stochastic", "nearest"] = Field(
        "stochastic", description="Up or down by chance, without bias; or to the nearer."
    )

    def reading(
        self, width_in: int, width_out: int, batch_rows: int | None, rng: Generator
    ) -> Reading:
        """Return one layer's inputs in few bits."""
        return _Quantised(self.bits, self.rounding == "stochastic", rng)

    def break_even(self, width: int) -> int | None:
        """Return 1 where codes, a range and bits for ReLU are less than a row; else None."""
        return rows_above(0, width, 8 + -(-width * self.bits // 8))


class _Quantised(Drawing):
    """Codes (n, ⌈d·bits/8⌉) of uint8, and the least value and the step of each row (n, 2)."""

    method = "quantise"

    def __init__(self, bits: int, stochastic: bool, rng: Generator) -> None:
        super().__init__(rng)
        self.bits, self.stochastic = bits, stochastic
        self.moves = stochastic

    def keep(self, rows: Tensor, outputs: Tensor | None, update: bool) -> tuple[list[Tensor], int]:
        with category("sketch"):
            a = rows.to(wide(rows.dtype))
            top = 2**self.bits - 1
            least, most = torch.aminmax(a, dim=1, keepdim=True)
            step = ((most - least) / top).clamp_min(torch.finfo(a.dtype).tiny)
            levels = (a - least) / step
            if self.stochastic:
                levels += self.uniform(len(a), a.shape[1], self.turn(update), a)
                levels.floor_()
            else:
                levels.round_()
            codes = levels.clamp_(0, top).to(torch.uint8)
            return [packed(codes, self.bits), torch.cat([least, step], 1)], a.shape[1]

    def gradient(self, delta: Tensor, kept: Any, note: Any) -> Tensor:
        codes, ranges = kept
        least, step = ranges.split(1, dim=1)
        dense = unpacked(codes, self.bits, note).to(ranges.dtype).mul_(step).add_(least)
        product: Tensor = delta.to(dense.dtype).mT @ dense
        return product


def packed(codes: Tensor, bits: int) -> Tensor:
    """Pack codes (n, d) below 2^bits into bytes (n, ⌈d·bits/8⌉), the first in the low bits."""
    share = 8 // bits
    if share == 1:
        return codes
    groups = F.pad(codes, (0, -codes.shape[1] % share)).unflatten(1, (-1, share))
    out: Tensor = groups[..., 0].clone()
    for place in range(1, share):
        out |= groups[..., place] << (bits * place)
    return out


def unpacked(codes: Tensor, bits: int, width: int) -> Tensor:
    """Return the codes (n, width) that `packed` packed."""
    share = 8 // bits
    if share == 1:
        return codes
    places = torch.arange(0, 8, bits, device=codes.device, dtype=torch.uint8)
    parts: Tensor = (codes[..., None] >> places) & (2**bits - 1)
    return parts.flatten(1)[:, :width]
