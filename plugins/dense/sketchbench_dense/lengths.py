"""Lengths of the vectors that a sketch is handed."""

from __future__ import annotations

from torch import Tensor


def expect(recipe: str, x: Tensor, length: int) -> None:
    """Raise `ValueError` where x isn't (..., length): torch would broadcast, or read a part."""
    found = x.shape[-1] if x.ndim else "no axis"
    if found != length:
        raise ValueError(f"{recipe}: expected vectors of {length} entries; got {found}")
