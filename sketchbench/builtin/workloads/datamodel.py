"""Linear datamodels: do scores of training examples foretell what training on some of them does?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.func import vmap

from sketchbench import Run, Split
from sketchbench.autodiff import seeded
from sketchbench.builtin.workloads.fitting import fit
from sketchbench.builtin.workloads.loop import Training, evaluating
from sketchbench.builtin.workloads.precision import FP32

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Datamodel:
    """Outcome: scores of training examples, and what training on random subsets of them came to.

    `scores` maps names to (draws, tests, examples); `members` (subsets, examples) says who was
    trained on, `losses` (subsets, tests) are the test examples' losses after it.
    """

    scores: Mapping[str, Tensor]
    members: Tensor
    losses: Tensor


def retrained(
    training: Training, run: Run, data: Split, tests: Split, subsets: int, share: float
) -> tuple[Tensor, Tensor]:
    """Train on random subsets of `data`; return members (subsets, n) and losses (subsets, tests).

    Each has `share` of the examples, and starts from the same weights: losses differ by what was
    trained on, and by the order of it.
    """
    count = len(data.targets)
    rng = run.rng("subsets")
    members = torch.zeros(subsets, count, dtype=torch.bool)
    losses = []
    for index in range(subsets):
        chosen = torch.randperm(count, generator=rng)[: max(1, round(share * count))].sort().values
        members[index, chosen] = True
        with seeded(run.rng("weights")):
            model = training.model.build(training.task.shapes)
        FP32().place(model, run.device)
        fit(training, model, data, run, chosen=chosen, purpose=f"subset/{index}")
        with evaluating(model):
            outputs = model(FP32().inputs(tests.inputs))
            losses.append(_each(training, outputs, tests.targets).cpu())
    return members, torch.stack(losses)


def whitened(cross: Tensor, gram: Tensor, ridge: float) -> Tensor:
    """Return gᵗᵉˢᵗ(GᵀG + λI)⁻¹Gᵀ from inner products: cross (..., m, n) and gram GGᵀ (..., n, n).

    By (GᵀG + λI)⁻¹Gᵀ = Gᵀ(GGᵀ + λI)⁻¹; λ is `ridge` times the mean of the diagonal of GGᵀ. This is
    TRAK's kernel, of one model and without its weights. [Park et al. 2023, eq. 13]
    """
    scale = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    solved: Tensor = torch.linalg.solve(gram + ridge * scale * identity, cross.mT).mT
    return solved


def _each(training: Training, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each example (n,)."""
    return vmap(lambda out, target: training.task.loss(out[None], target[None]))(outputs, targets)
