"""QK: Kronecker products of random orthogonal rows. [Schioppa 2024, arXiv 2402.03994]"""

from __future__ import annotations

from collections.abc import Sequence

from sketchbench import GradientSketch, hookimpl
from sketchbench_qk.listing import QKListing2
from sketchbench_qk.qk import QK

__all__ = ["QK", "QKListing2", "register_sketches"]


@hookimpl
def register_sketches() -> Sequence[type[GradientSketch]]:
    """Return the sketches, the valid one first."""
    return [QK, QKListing2]
