"""Orthonormal eigenvectors of a symmetric matrix: where SOAP and GaLore step."""

from __future__ import annotations

import torch
from torch import Tensor

from sketchbench import Diverged


def eigenbasis(matrix: Tensor) -> Tensor:
    """Return the eigenvectors (d, d) of a symmetric matrix (d, d), largest eigenvalue first.

    Computed in float64, whose `eigh` fails on what isn't finite alone: that raises `Diverged`.
    """
    try:
        vectors = torch.linalg.eigh(matrix.to(torch.float64)).eigenvectors
    except torch.linalg.LinAlgError as error:
        size = " × ".join(map(str, matrix.shape))
        raise Diverged(f"no eigenvectors of a {size} matrix of gradients: {error}") from None
    return vectors.flip(-1).to(matrix.dtype)


def averaged(kept: Tensor, value: Tensor, decay: float) -> Tensor:
    """Let `kept` be decay·kept + (1 − decay)·value; return it in the type of `value`, unrounded."""
    wide = kept.to(value.dtype).lerp_(value, 1 - decay)  # in place, unless the types differ
    if wide is not kept:
        kept.copy_(wide)
    return wide
