"""AFFD: Fastfood transforms made into sketches of gradients. [Schioppa 2024, arXiv 2402.03994]"""

from __future__ import annotations

from collections.abc import Sequence

from sketchbench import GradientSketch, hookimpl
from sketchbench_affd.affd import AFFD
from sketchbench_affd.block_affd import BlockAFFD

__all__ = ["AFFD", "BlockAFFD", "register_sketches"]


@hookimpl
def register_sketches() -> Sequence[type[GradientSketch]]:
    """Return the sketches, the default one first."""
    return [BlockAFFD, AFFD]
