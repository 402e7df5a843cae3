"""Packing: one bit for a boolean, and rows of floating-point numbers in eight."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from sketchbench_tri_sketch.draws import wide

_GATHER = 0x0102040810204080  # times eight bytes of 0 or 1: its top byte has one bit of each


def pack_bits(flags: Tensor) -> Tensor:
    """Return booleans of any shape as bytes (⌈n/8⌉,) of uint8, eight to a byte, in their order."""
    flat = flags.flatten()
    missing = -len(flat) % 8
    if missing:
        flat = torch.cat([flat, flat.new_zeros(missing)])
    return ((flat.view(torch.int64) * _GATHER) >> 56).to(torch.uint8)


def unpack_bits(packed: Tensor, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Return the booleans of `shape` whose bytes `pack_bits` returned."""
    words = _words().to(packed.device).index_select(0, packed.to(torch.int32))
    return words.view(torch.bool)[: math.prod(shape)].view(shape)


def pack_rows(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows (n, d) in eight bits, and the least value and the step of each row (n, 2).

    Off by half a step at most, a 510th of the row's range, up to rounding; computed in float32 at
    least, which is the type of the values and steps.
    """
    values = values.to(wide(values.dtype))
    least, most = torch.aminmax(values, dim=1, keepdim=True)
    step = ((most - least) / 255).clamp_min(torch.finfo(values.dtype).tiny)
    codes = ((values - least) / step).round_().clamp_(0, 255).to(torch.uint8)
    return codes, torch.cat([least, step], dim=1)


def unpack_rows(codes: Tensor, ranges: Tensor) -> Tensor:
    """Return the rows (n, d) that `pack_rows` packed, in the type of their ranges."""
    return torch.addcmul(ranges[:, :1], codes.to(ranges.dtype), ranges[:, 1:])


@cache
def _table() -> tuple[int, ...]:
    return tuple(sum((byte >> bit & 1) << 8 * bit for bit in range(8)) for byte in range(256))


def _words() -> Tensor:
    """Return the eight booleans of each byte (256,) as one word of int64."""
    return torch.tensor(_table())
