"""VeLoRA: sub-tokens kept as one number each, by a fixed vector."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from sketchbench import Field
from sketchbench.measure import category
from sketchbench_tri_sketch.draws import wide
from sketchbench_tri_sketch.reading import Reading
from sketchbench_tri_sketch.recipes import LayerSketch
from sketchbench_tri_sketch.rows import rows_above


class VeLoRA(LayerSketch):
    """Cut each row into sub-tokens and keep their coordinates along one fixed vector v.

    Â has the sub-tokens (xᵀv)v; v (d/groups,) is the mean sub-token of the first batch, of norm 1.
    [Miles et al. 2024, arXiv 2405.17991, Algorithm 1] A last sub-token that is shorter is filled
    up with zeros. Where inputs are centred, v is the direction of a mean that is nearly zero.
    """

    name = "velora"
    groups: int = Field(8, ge=1, description="Sub-tokens of a row: the numbers kept of it.")

    def reading(
        self, width_in: int, width_out: int, batch_rows: int | None, rng: Generator
    ) -> Reading:
        """Return the sub-tokens of one layer's inputs."""
        return _SubTokens(self.groups, width_in)

    def break_even(self, width: int) -> int | None:
        """Return 1 where a row's coordinates and bits for ReLU are less than a row; else None."""
        return rows_above(0, width, 4 * min(self.groups, width))


class _SubTokens(Reading):
    """Coordinates (n, groups); the state is v, which is in the state dict once there is one."""

    method = "velora"
    vector: Tensor | None

    def __init__(self, groups: int, width: int) -> None:
        super().__init__()
        self.groups = min(groups, width)
        self.length = -(-width // self.groups)
        self.register_buffer("vector", None)

    def keep(self, rows: Tensor, outputs: Tensor | None, update: bool) -> tuple[list[Tensor], int]:
        with category("sketch"):
            a = rows.to(wide(rows.dtype))
            missing = self.groups * self.length - a.shape[1]
            parts = F.pad(a, (0, missing)).view(len(a), self.groups, self.length)
            vector = self._first(parts) if self.vector is None else self.vector.to(a)
            if update:  # the first one, or a loaded one, which is where it was saved
                self.vector = vector
            return [parts @ vector, vector], a.shape[1]

    def gradient(self, delta: Tensor, kept: Any, note: Any) -> Tensor:
        coordinates, vector = kept
        scores: Tensor = delta.to(vector.dtype).mT @ coordinates  # (m, groups)
        parts: Tensor = scores[:, :, None] * vector
        return parts.flatten(1)[:, :note]

    def _first(self, parts: Tensor) -> Tensor:
        """Return the mean of sub-tokens (n, groups, length), of norm 1; flat where it is zero."""
        mean = parts.mean((0, 1))
        norm = torch.linalg.vector_norm(mean)
        flat = torch.full_like(mean, self.length**-0.5)
        return torch.where(norm > 0, mean / norm, flat)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take the vector, which a new reading doesn't have yet."""
        loaded = state_dict.get(f"{prefix}vector")
        self.vector = None if loaded is None else torch.empty_like(loaded)
        super()._load_from_state_dict(state_dict, prefix, *args)
