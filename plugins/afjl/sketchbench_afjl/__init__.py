"""AFJL and its repaired form: rows of a Hadamard matrix. [Schioppa 2024, arXiv 2402.03994]"""

from __future__ import annotations

from collections.abc import Sequence

from sketchbench import GradientSketch, hookimpl
from sketchbench_afjl.afjl import AFJL
from sketchbench_afjl.srht import SRHT

__all__ = ["AFJL", "SRHT", "register_sketches"]


@hookimpl
def register_sketches() -> Sequence[type[GradientSketch]]:
    """Return the sketches, the valid one first."""
    return [SRHT, AFJL]
