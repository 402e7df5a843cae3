"""Top-k: the entries of each row that are largest in magnitude."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor

from sketchbench import Field
from sketchbench.measure import category
from sketchbench_tri_sketch.draws import wide
from sketchbench_tri_sketch.reading import Reading
from sketchbench_tri_sketch.recipes import LayerSketch
from sketchbench_tri_sketch.rows import rows_above


class TopK(LayerSketch):
    """Keep the largest entries of each row, and where they were. Biased.

    [BackRazor: Jiang et al. 2022] Where it differs:

    1. Positions are integers, of one byte up to a width of 256 and of two up to 32768, where
       BackRazor has a bit an entry: less memory below one entry in eight, or sixteen.
    2. The backward pass makes a dense Â (n, d), one layer at a time.
    """

    name = "top-k"
    fraction: float = Field(0.1, gt=0, le=1, description="Share of a row's entries that is kept.")
    count: int | None = Field(None, ge=1, description="Entries kept of a row; overrides fraction.")

    def reading(
        self, width_in: int, width_out: int, batch_rows: int | None, rng: Generator
    ) -> Reading:
        """Return the largest entries of one layer's inputs."""
        return _Largest(self._entries(width_in))

    def break_even(self, width: int) -> int | None:
        """Return 1 where a row's entries, positions and bits for ReLU are less; else None."""
        entry = 4 + index_type(width).itemsize
        return rows_above(0, width, entry * self._entries(width))

    def _entries(self, width: int) -> int:
        return min(width, self.count or math.ceil(self.fraction * width))


def index_type(width: int) -> torch.dtype:
    """Return the narrowest type that holds the positions in a row of `width` entries."""
    kinds = (torch.uint8, torch.int16)
    return next((kind for kind in kinds if width - 1 <= torch.iinfo(kind).max), torch.int32)


class _Largest(Reading):
    """Values (n, c), in float32 where the model is narrower, and positions (n, c)."""

    method = "top-k"
    moves = False

    def __init__(self, entries: int) -> None:
        super().__init__()
        self.entries = entries

    def keep(self, rows: Tensor, outputs: Tensor | None, update: bool) -> tuple[list[Tensor], int]:
        with category("sketch"):
            width = rows.shape[1]
            positions = rows.abs().topk(self.entries, dim=1, sorted=False).indices
            return [rows.gather(1, positions), positions.to(index_type(width))], width

    def gradient(self, delta: Tensor, kept: Any, note: Any) -> Tensor:
        values, positions = kept
        values = values.to(wide(values.dtype))
        dense = values.new_zeros(len(values), note).scatter_(1, positions.long(), values)
        product: Tensor = delta.to(dense.dtype).mT @ dense
        return product
