"""What a method keeps of one axis: the only thing in which Kronecker-factored methods differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

Kept = Mapping[str, Tensor]


class Factor(Protocol):
    """The factor C of one axis, d × d, exact or sketched: C decays, and grows by MMᵀ.

    What it keeps is plain tensors by name, each (B, …) for a batch of B blocks that don't touch
    one another. Equal shapes are batched, so nothing may depend on values but those of its block.
    Arguments are only read, never written: some are the state itself. What is returned has the
    shapes that `empty` made, and replaces what it names. Should it not be finite, it raises
    `FloatingPointError` instead.
    """

    @property
    def parts(self) -> Mapping[str, str]:
        """The part of memory (`sketch`, `preconditioner`) of each tensor, by names without dots."""

    def empty(
        self,
        batch: int,
        sizes: tuple[int, ...],
        axis: int,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> dict[str, Tensor]:
        """Return what it keeps of C = 0 for axis `axis` of blocks (batch, *sizes)."""

    def absorb(self, kept: Kept, increment: Tensor) -> Kept:
        """Return what changes of what it keeps as C absorbs an increment M (B, d, n)."""

    def refresh(self, kept: Kept, exponent: float) -> Kept:
        """Return what changes as C's power is made ready to apply; sketches have nothing to do."""

    def apply(self, kept: Kept, x: Tensor, exponent: float) -> Tensor:
        """Return C^exponent x for x (B, d, n), as of the last `refresh`."""


@runtime_checkable
class Sketching(Factor, Protocol):
    """A factor that sketches, and tells how much of C escaped it."""

    def escaped_share(self, kept: Kept) -> Tensor:
        """Return ρ / (ρ + trace of what is held) of each block, (B,); 0 of C = 0."""
