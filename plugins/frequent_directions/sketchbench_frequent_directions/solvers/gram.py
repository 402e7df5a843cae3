"""The smaller Gram matrix in float64, whatever the storage: O(dc·min(d, c)), cheaper than `svd`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sketchbench_frequent_directions.solvers import Leading
from sketchbench_frequent_directions.solvers import decompositions as dense
from sketchbench_frequent_directions.solvers.svd import svd


def gram(stack: Tensor, rank: int, warm: Tensor) -> Leading:
    """Return the leading pairs, exact to rounding.

    Squaring halves the digits: of a float32 stack float64 keeps all of them. Of a float64 stack it
    hides roots below 4e-8 of the largest; one whose (k+1)-th root is hidden is left to `svd`, since
    an update would let up to 2e-15·λ₁ go, that neither the sketch nor its tail would hold.
    """
    epsilon = torch.finfo(stack.dtype).eps
    vectors, roots, _ = pairs(stack.double(), rank, 8 * epsilon)
    resolution = max(8 * epsilon, squared_resolution(torch.float64))
    found = dense.leading(vectors, roots, rank, resolution)
    found = Leading(*(part.to(stack.dtype) for part in found))
    if resolution == 8 * epsilon:
        return found
    return dense.replaced(found, dense.hidden(roots, rank, resolution), svd, stack, warm)


def pairs(stack: Tensor, rank: int, allowed: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return `rank` left vectors (..., d, k) of a stack M (..., d, c), all roots, and a loss (...).

    A tall stack's c × c matrix has right vectors Q, and MQ = UΣ. The loss is the largest entry of
    |UᵀU − I| where σ is above rounding; where it is above `allowed`, a QR decomposition of MQ makes
    U orthonormal again, and leaves UΣ²Uᵀ = MQQᵀMᵀ ⪯ MMᵀ as it is.
    """
    epsilon = torch.finfo(stack.dtype).eps
    wide = stack.shape[-2] <= stack.shape[-1]
    values, vectors = dense.eigh(dense.gram_matrix(stack if wide else stack.mT))
    roots = values.clamp_min(0).sqrt()
    kept, vectors = roots[..., :rank], vectors[..., :rank]
    active = kept > 8 * epsilon * roots[..., :1]
    if wide:
        return vectors, roots, dense.orthogonality_loss(vectors, active)
    scaled = stack @ vectors
    vectors = scaled / torch.where(active, kept, 1).unsqueeze(-2)
    loss = dense.orthogonality_loss(vectors, active)
    sound = loss <= allowed
    if not dense.told(sound.all(), assumed=True):
        mended, triangle = torch.linalg.qr(scaled)
        mended = mended * triangle.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)
        vectors = torch.where(sound[..., None, None], vectors, mended)
    return vectors, roots, loss


def squared_resolution(dtype: torch.dtype) -> float:
    """Return what of the largest root a Gram matrix of the type tells from rounding."""
    return math.sqrt(8 * torch.finfo(dtype).eps)
