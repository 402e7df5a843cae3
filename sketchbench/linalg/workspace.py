"""Memory that transforms reuse: fresh memory costs more than their arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Workspace:
    """Two buffers, which grow to the largest that was asked for.

    What is in them means nothing between calls, and no result lies in them. Not for two threads at
    once: give each its own.
    """

    def __init__(self) -> None:
        self._held: dict[int, Tensor] = {}

    def buffer(
        self, index: int, shape: Sequence[int], dtype: torch.dtype, device: torch.device
    ) -> Tensor:
        """Return buffer 0 or 1 as a contiguous tensor of this shape, with whatever is in it."""
        count = 1
        for side in shape:
            count *= side
        held = self._held.get(index)
        if held is None or held.dtype != dtype or held.device != device or held.numel() < count:
            self._held.pop(index, None)  # before the new one, not beside it
            held = self._held[index] = torch.empty(count, dtype=dtype, device=device)
        return held[:count].view(*shape)

    @property
    def held_bytes(self) -> int:
        """Return the bytes of both buffers."""
        return sum(held.untyped_storage().nbytes() for held in self._held.values())
