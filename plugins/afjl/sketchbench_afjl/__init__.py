"""AFJL: sketches of gradients. [Schioppa 2024, arXiv 2402.03994]"""

from __future__ import annotations

from collections.abc import Sequence

from sketchbench import GradientSketch, hookimpl


@hookimpl
def register_sketches() -> Sequence[type[GradientSketch]]:
    """Return the sketches."""
    return []
