"""Kronecker-factored preconditioning: all that its methods share, so that each says one thing.

A public door. A method is a `Factor`, what is kept of one axis, and `Kronecker` makes it an
optimizer: any-order tensors, merged dimensions, blocks, grafting, momentum, weight decay, updates
every few steps, state that is saved, moved and declared, equal shapes in batched calls.
"""

from __future__ import annotations

from sketchbench.preconditioning.factor import Factor, Kept, Sketching
from sketchbench.preconditioning.grafting import GraftName
from sketchbench.preconditioning.kronecker import Kronecker, Skipped
from sketchbench.preconditioning.shapes import Layout, Tile, layout, merged

__all__ = [
    "Factor",
    "GraftName",
    "Kept",
    "Kronecker",
    "Layout",
    "Sketching",
    "Skipped",
    "Tile",
    "layout",
    "merged",
]
