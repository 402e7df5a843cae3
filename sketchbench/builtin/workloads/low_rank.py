"""Low rank: the randomised SVD of a matrix and the Nyström form of a kernel, from a sketch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sketchbench import LinearSketch, Missing


@dataclass(frozen=True)
class LowRank:
    """Outcome: errors (draws,) of approximations of some rank, and the `best` one's of it."""

    errors: Tensor
    best: float


def approximated(matrix: Tensor, images: Sequence[Tensor], rank: int) -> LowRank | Missing:
    """Return Frobenius errors at `rank` of A (m, n) projected on the row spaces of SA (D, n).

    Halko, Martinsson and Tropp 2011, with A transposed, no power iterations and no rows beyond
    the sketch's: the best approximation of this rank within the row space.
    """
    if len(images[0]) < rank:
        return Missing(f"the sketch's {len(images[0])} rows are fewer than the rank {rank}")
    errors = []
    for image in images:
        basis = _row_space(image)
        u, s, v = torch.linalg.svd(matrix @ basis, full_matrices=False)
        kept = (u[:, :rank] * s[:rank]) @ v[:rank]
        errors.append((matrix - kept @ basis.mT).norm())
    tail = torch.linalg.svdvals(matrix)[rank:].norm()
    return LowRank(torch.stack(errors), float(tail))


class Nystrom:
    """A positive semi-definite K (m, m), as a factor B (m, n) with K = BBᵀ or as it is."""

    def __init__(self, factor: Tensor, eigenvalues: Tensor, whole: bool) -> None:
        self._factor, self._eigenvalues, self._whole = factor, eigenvalues, whole

    @classmethod
    def of(cls, matrix: Tensor) -> Nystrom:
        """Return K itself, with its eigenvalues."""
        return cls(matrix, torch.linalg.eigvalsh(matrix).flip(0).clamp_min(0), whole=True)

    @classmethod
    def planted(cls, left: Tensor, values: Tensor) -> Nystrom:
        """Return K of eigenvectors (m, n) and eigenvalues (n,), descending."""
        return cls(left * values.sqrt(), values, whole=False)

    def to(self, device: torch.device) -> Nystrom:
        """Return it on `device`."""
        return Nystrom(self._factor.to(device), self._eigenvalues.to(device), self._whole)

    def best(self, rank: int) -> float:
        """Return the trace norm behind the `rank` largest eigenvalues."""
        return float(self._eigenvalues[rank:].sum())

    def error(self, sketch: LinearSketch, rank: int) -> float:
        """Return the trace norm of K less the best part of `rank` of KSᵀ(SKSᵀ)⁺SK.

        The Nyström form isn't above K, nor its parts, so the norm is a difference of traces.
        """
        image = sketch.apply(self._factor.mT.contiguous())  # (n, D): (SB)ᵀ, or KSᵀ
        product = image if self._whole else self._factor @ image
        core = sketch.apply(product.mT.contiguous()) if self._whole else image.mT @ image
        values, vectors = torch.linalg.eigh((core + core.mT) / 2)
        kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
        root = product @ (vectors[:, kept] * values[kept].rsqrt())
        held = torch.linalg.svdvals(root)[:rank].square().sum()
        return float(self._eigenvalues.sum() - held)


def _row_space(image: Tensor) -> Tensor:
    """Return an orthonormal basis (n, r) of the row space of (D, n), of its numerical rank."""
    _, values, rows = torch.linalg.svd(image, full_matrices=False)
    kept = values > max(image.shape) * torch.finfo(values.dtype).eps * values[0]
    basis: Tensor = rows[kept].mT
    return basis
