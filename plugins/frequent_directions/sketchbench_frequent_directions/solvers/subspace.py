"""Warm block power iteration, its error certified: products, QR and one Cholesky decomposition."""

from __future__ import annotations

import torch
from torch import Tensor

from sketchbench_frequent_directions.solvers import Leading
from sketchbench_frequent_directions.solvers import decompositions as dense
from sketchbench_frequent_directions.solvers.certificate import certified_norm
from sketchbench_frequent_directions.solvers.gram import gram
from sketchbench_frequent_directions.solvers.projection import project, started

WORST = 3.0  # times λ_{k+1}, that an update may let escape; flat spectra reach 2.2


def subspace(stack: Tensor, rank: int, warm: Tensor) -> Leading:
    """Return nearly leading pairs, and an escaped mass that makes up for what they miss.

    V spans Mᵀ[X, MMᵀΩ], with the sketch's own vectors in X, and p columns Ω to find new ones; they
    pass the stack twice, X once. MVVᵀ = UΣVᵀ, whose k leading pairs, less c = σ²_{k+1}, are the
    sketch. With E = M − U_kΣ_kV_kᵀ, C − sketch = EEᵀ + cU_kU_kᵀ exactly: the lower bound holds for
    any V, and the escaped mass is a certified norm of [E, √c·U_k], a few % above the least that
    keeps the upper one.

    An update that brings more than p new directions may miss some of those larger than what is
    held. A stack whose escaped mass is above `WORST` times c, which is λ_{k+1} at most, is left to
    `gram`: an update adds no more than that multiple of an exact solver's tail, 5 to 40 % more on
    ordinary streams. Where 2(k + p) is above a stack's smaller dimension there is nothing to save,
    and `gram` does it too.
    """
    extra = oversampling(rank)
    if 2 * (rank + extra) > min(stack.shape[-2:]):
        return gram(stack, rank, warm)
    start = started(warm, extra)
    fresh = stack @ torch.linalg.qr(stack.mT @ start[..., rank:])[0]
    start = torch.cat([start[..., :rank], fresh], dim=-1)
    left, roots, right = project(stack, torch.linalg.qr(stack.mT @ start)[0])
    resolution = 8 * torch.finfo(stack.dtype).eps
    found = dense.leading(left, roots, rank, resolution)
    escaped = certified_norm(_missed(stack, found, right[..., :rank]))
    rounding = rank * (resolution * found.roots[..., 0]).square()
    found = found._replace(escaped=torch.where(escaped > rounding, escaped, 0))
    failed = found.escaped > WORST * found.cutoff.square()
    return dense.replaced(found, failed, gram, stack, warm)


def oversampling(rank: int) -> int:
    """Return p, the new directions that an update may bring: half the rank, and 8 at least."""
    return max(8, rank // 2)


def _missed(stack: Tensor, found: Leading, right: Tensor) -> Tensor:
    """Return [M − UΣVᵀ, √c·U] (..., d, c + k), whose square is C less the deflated sketch."""
    missed = stack.new_empty(*stack.shape[:-1], stack.shape[-1] + right.shape[-1])
    held = (found.vectors * found.roots.unsqueeze(-2)) @ right.mT
    torch.sub(stack, held, out=missed[..., : stack.shape[-1]])
    torch.mul(found.vectors, found.cutoff[..., None, None], out=missed[..., stack.shape[-1] :])
    return missed
