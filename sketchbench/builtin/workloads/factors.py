"""Factors: second moments of gradients as they run, their spectra, and how these turn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from sketchbench import Diverged


@dataclass(frozen=True)
class FactorSpectra:
    """Outcome: eigenvalues of several factors, each (d,) and descending, and how they turned.

    `rotation` holds, for each factor, the mean of 1 − cos² over the principal angles between its
    leading `leading` eigenvectors and those of the checkpoint before: 0 for the same space, 1 for
    orthogonal ones; NaN at the first checkpoint and where there is no such space.
    """

    names: tuple[str, ...]
    values: tuple[Tensor, ...]
    rotation: tuple[float, ...]
    leading: int

    def intrinsic(self) -> Mapping[str, float]:
        """Return tr/λ₁ of each factor; nan for one of zeros."""
        return {
            name: float(values.sum() / values[0])
            for name, values in zip(self.names, self.values, strict=True)
        }

    def mass(self, count: int | None = None, fraction: float = 0.0) -> Mapping[str, float]:
        """Return the share of the `count` largest eigenvalues in the trace, of factors with more.

        Without a count, of `fraction` of them, rounded down, and one at least. nan for a factor of
        zeros.
        """
        shares = {}
        for name, values in zip(self.names, self.values, strict=True):
            counted = max(1, int(fraction * len(values))) if count is None else count
            if len(values) > counted:
                shares[name] = float(values[:counted].sum() / values.sum())
        return shares


class Factor:
    """A running second moment F (d, d) of gradients, and where its leading space was."""

    def __init__(self, size: int, leading: int, device: torch.device) -> None:
        self._matrix = torch.zeros(size, size, device=device)
        self._leading = leading
        self._before: Tensor | None = None  # leading eigenvectors (d, k) at the last look

    def absorb(self, increment: Tensor, decay: float) -> None:
        """Make of F decay·F + GGᵀ for G (d, n)."""
        increment = increment.to(self._matrix.dtype)
        self._matrix.addmm_(increment, increment.mT, beta=decay)

    def look(self) -> tuple[Tensor, float]:
        """Return the eigenvalues (d,), descending, and the rotation since the last look.

        Both in double precision, on the CPU. Raises `Diverged` where F isn't finite.
        """
        if not self._matrix.isfinite().all():
            raise Diverged("a factor of the gradients is not finite")
        found, vectors = torch.linalg.eigh(self._matrix.double())
        values = found.flip(0).clamp_min(0).cpu()
        space = self._space(values, vectors)
        rotation = _rotation(self._before, space)
        self._before = space
        return values, rotation

    def _space(self, values: Tensor, vectors: Tensor) -> Tensor | None:
        """Return the leading eigenvectors (d, k), of all (d, d) in ascending order.

        None for k ≥ d, and where the k-th eigenvalue is rounding: then any space would do.
        """
        count = self._leading
        floor = len(values) * torch.finfo(torch.float32).eps * values[0]
        if count >= len(values) or not values[count - 1] > floor:
            return None
        return vectors[:, -count:].clone()


def looked_at(factors: Mapping[str, Factor], leading: int) -> FactorSpectra:
    """Return the outcome of looking at each factor."""
    values, rotations = zip(*(factor.look() for factor in factors.values()), strict=True)
    return FactorSpectra(tuple(factors), values, rotations, leading)


def _rotation(before: Tensor | None, after: Tensor | None) -> float:
    """Return the mean of 1 − cos² over the principal angles of two spaces (d, k); nan without."""
    if before is None or after is None:
        return math.nan
    return 1 - float((before.mT @ after).square().sum()) / before.shape[1]
