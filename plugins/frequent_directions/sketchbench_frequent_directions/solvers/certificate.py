"""Certified upper bounds of ‖WWᵀ‖₂: a Cholesky decomposition that succeeds is the proof."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from sketchbench_frequent_directions.solvers import decompositions as dense

STEPS = 16  # of Lanczos: at a flat spectrum's edge within 3 % of the norm, from below
MARGIN = 1.05  # over Lanczos' value at the first trial, and on every trial more
TRIALS = 8


def certified_norm(matrix: Tensor) -> Tensor:
    """Return bounds t (...) with WWᵀ ⪯ t·I, for W (..., d, m): above ‖WWᵀ‖₂ by some 5 %.

    tI − WWᵀ is positive definite if and only if it has a Cholesky decomposition: a third of the
    smaller dimension's cube, after the Gram matrix. Lanczos' value, a bound from below, says which
    t to try; those that fail grow, and after the last trial the trace stands in, always a bound.
    """
    inner = dense.gram_matrix(matrix if matrix.shape[-2] <= matrix.shape[-1] else matrix.mT)
    bound = inner.diagonal(dim1=-2, dim2=-1).sum(-1)
    rounding = 1 + 4 * inner.shape[-1] * torch.finfo(inner.dtype).eps
    trial = lanczos(inner) * MARGIN
    certified = trial >= bound
    for trials in range(TRIALS):
        if dense.told(certified.all(), assumed=trials > 0):
            break
        rest = -inner
        rest.diagonal(dim1=-2, dim2=-1).add_(trial.unsqueeze(-1))
        passed = dense.positive_definite(rest) & ~certified
        bound = torch.where(passed, torch.minimum(bound, trial * rounding), bound)
        certified = certified | passed
        trial = trial * MARGIN
    return bound


def lanczos(matrix: Tensor) -> Tensor:
    """Return a lower bound (...) of ‖A‖₂ for semi-definite A (..., n, n), by Lanczos' method.

    It starts from Az, with normal draws z of a fixed seed: 1 is in the null space of a gradient of
    logits. Without reorthogonalisation: repeated values do no harm.
    """
    steps = min(STEPS, matrix.shape[-2])
    drawn = torch.randn(matrix.shape[-1], 1, generator=Generator().manual_seed(0))
    vector = _unit(matrix @ drawn.to(matrix))[0]
    previous, beta = torch.zeros_like(vector), vector.new_zeros(matrix.shape[:-2])
    alphas, betas = [], []
    for _ in range(steps):
        image = matrix @ vector - beta[..., None, None] * previous
        alpha = (vector.mT @ image)[..., 0, 0]
        previous, (vector, beta) = vector, _unit(image - alpha[..., None, None] * vector)
        alphas.append(alpha)
        betas.append(beta)
    below = torch.diag_embed(torch.stack(betas[:-1], -1), -1) if steps > 1 else 0
    tridiagonal = torch.diag_embed(torch.stack(alphas, -1)) + below
    return dense.eigh(tridiagonal)[0][..., 0].clamp_min(0)


def _unit(vector: Tensor) -> tuple[Tensor, Tensor]:
    """Return the vectors (..., n, 1) of length 1, those of zeros as they are, and their lengths."""
    length = (vector.mT @ vector).sqrt()
    return vector / torch.where(length > 0, length, 1), length[..., 0, 0]
