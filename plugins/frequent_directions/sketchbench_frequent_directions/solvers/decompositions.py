"""Decompositions that try again in float64, and what rounding leaves of their results."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.functional import pad

from sketchbench_frequent_directions.solvers import Leading, Solver

PANEL = 128  # rows of a symmetric matrix done at once; below it, saving half isn't worth a call


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return eigenvalues (..., n), descending, and eigenvectors of the lower triangle (..., n, n).

    Raises `torch.linalg.LinAlgError` where float64 fails too.
    """
    values, vectors = retried(torch.linalg.eigh, matrix)
    return values.flip(-1), vectors.flip(-1)


def svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return U, σ, Vᵀ of the thin singular value decomposition; raises as `eigh`."""
    left, roots, right = retried(lambda m: torch.linalg.svd(m, full_matrices=False), matrix)
    return left, roots, right


def retried(
    decompose: Callable[[Tensor], tuple[Tensor, ...]], matrix: Tensor
) -> tuple[Tensor, ...]:
    """Return what `decompose` makes of the matrix; where it fails in float32, of it in float64.

    LAPACK's and cuSOLVER's iterations stall in float32 on some nearly low-rank matrices.
    """
    try:
        return tuple(decompose(matrix))
    except torch.linalg.LinAlgError:
        if matrix.dtype == torch.float64:
            raise
    return tuple(part.to(matrix.dtype) for part in decompose(matrix.double()))


def told(flag: Tensor, assumed: bool) -> bool:
    """Return what a flag () says; `assumed` where memory is predicted and there are no values."""
    return assumed if isinstance(flag, FakeTensor) else bool(flag)


def gram_matrix(matrix: Tensor) -> Tensor:
    """Return AAᵀ (..., n, n) for A (..., n, m): its lower triangle by panels, then mirrored."""
    rows = matrix.shape[-2]
    if rows <= PANEL:
        return matrix @ matrix.mT
    product = matrix.new_empty(*matrix.shape[:-1], rows)
    for start in range(0, rows, PANEL):
        stop = min(start + PANEL, rows)
        panel = matrix[..., start:stop, :] @ matrix[..., :stop, :].mT
        product[..., start:stop, :stop] = panel
        product[..., :start, start:stop] = panel[..., :start].mT
    return product


def positive_definite(matrix: Tensor) -> Tensor:
    """Return which symmetric matrices (..., n, n) have a Cholesky decomposition; overwrites them.

    Left-looking, by panels: LAPACK's factor comes with copies and a zeroed triangle.
    """
    rows = matrix.shape[-1]
    definite = torch.ones(matrix.shape[:-2], dtype=torch.bool, device=matrix.device)
    for start in range(0, rows, PANEL):
        stop = min(start + PANEL, rows)
        done = matrix[..., start:, :start]
        panel = matrix[..., start:, start:stop] - done @ done[..., : stop - start, :].mT
        factor, failed = torch.linalg.cholesky_ex(panel[..., : stop - start, :])
        definite &= failed == 0
        if stop < rows:
            below = panel[..., stop - start :, :]
            matrix[..., stop:, start:stop] = torch.linalg.solve_triangular(
                factor.mT, below, upper=True, left=False
            )
    return definite


def orthogonality_loss(vectors: Tensor, active: Tensor) -> Tensor:
    """Return the largest entry (...) of |UᵀU − I| over the active columns of U (..., d, k)."""
    kept = vectors * active.unsqueeze(-2)
    return (kept.mT @ kept - torch.diag_embed(active.to(vectors))).abs().amax((-2, -1))


def leading(vectors: Tensor, roots: Tensor, rank: int, resolution: float) -> Leading:
    """Cut all pairs found, U (..., d, q) and σ (..., r), at `rank`; r may be above q.

    What is below `resolution` of the largest is rounding, and 0: a tail of rounding errors would
    be inverted with everything else. It is lost, `resolution`² of λ₁ an update at most; `hidden`
    says where. Missing columns are zeros.
    """
    roots = torch.where(roots > resolution * roots[..., :1], roots, 0)
    missing = rank + 1 - roots.shape[-1]
    roots = pad(roots, (0, max(missing, 0)))
    vectors = pad(vectors[..., :rank], (0, max(rank - vectors.shape[-1], 0)))
    cutoff = roots[..., rank]
    return Leading(vectors, roots[..., :rank], cutoff, cutoff.square())


def hidden(roots: Tensor, rank: int, resolution: float) -> Tensor:
    """Return which stacks (...) have a root among the first k + 1 that `leading` takes for 0.

    Of roots (..., r), descending. Nothing is hidden of a stack of zeros.
    """
    if not roots.shape[-1]:
        return torch.zeros(roots.shape[:-1], dtype=torch.bool, device=roots.device)
    largest, last = roots[..., 0], roots[..., min(rank, roots.shape[-1] - 1)]
    return (largest > 0) & ~(last > resolution * largest)


def replaced(
    found: Leading, failed: Tensor, solver: Solver, stack: Tensor, warm: Tensor
) -> Leading:
    """Return what was found, but of stacks that `failed` (...) what `solver` finds; in place."""
    if not told(failed.any(), assumed=False):
        return found
    better = solver(stack[failed], found.roots.shape[-1], warm[failed])
    for part, replacement in zip(found, better, strict=True):
        part[failed] = replacement
    return found
