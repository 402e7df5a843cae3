"""What S-Shampoo keeps of one axis: a sketch of its factor. [Feinberg et al. 2023, §4]"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sketchbench.preconditioning import Kept
from sketchbench_frequent_directions.powers import power
from sketchbench_frequent_directions.sketch import Sketch, absorb, empty
from sketchbench_frequent_directions.solvers import Solver

Tail = Literal["dynamic", "fixed", "none"]
TailFloor = Literal["smallest", "none"]


@dataclass(frozen=True)
class SketchedAxis:
    """A factor kept as Frequent Directions keeps it: k directions and the mass that escaped.

    With the sketch U·diag(λ)·Uᵀ and its tail ρ, powers are of U·diag(λ + ρ + e)·Uᵀ on the span of
    U and of ρ + e beside it, e = epsilon·(λ₁ + ρ). ρ is the escaped mass (`tail="dynamic"`), the
    constant `delta` (`fixed`), or 0 (`none`: what lies beside U is projected out).

    While nothing has escaped (ρ below the rounding of λ₁) nothing is known of what lies beside U.
    Differs from `tearfree/sketchy.py`: 1. there it is projected out (`tail_floor="none"`), so that
    a gradient between two updates loses all that the few it learnt from didn't span. By default
    it counts as the weakest direction seen (`smallest`): it is neither lost nor amplified beyond
    what was seen. Gradients that were absorbed themselves lie in U, where both are the same.
    """

    rank: int | tuple[int, ...]
    beta2: float
    tail_decay: float
    solver: Solver
    epsilon: float
    tail: Tail = "dynamic"
    delta: float = 0.0
    tail_floor: TailFloor = "smallest"

    parts: ClassVar[Mapping[str, str]] = {"vectors": "sketch", "roots": "sketch", "tail": "sketch"}

    def empty(
        self,
        batch: int,
        sizes: tuple[int, ...],
        axis: int,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> dict[str, Tensor]:
        """Return the sketch of C = 0 for one axis; raise where `rank` is for another order."""
        rank = self.rank
        if isinstance(rank, tuple):
            if len(rank) != len(sizes):
                raise ValueError(
                    f"optimizer 's-shampoo': rank {list(rank)} is for {len(rank)} axes; a block "
                    f"of {tuple(sizes)} has {len(sizes)}"
                )
            rank = rank[axis]
        return empty(sizes[axis], rank, (batch,), device=device, dtype=dtype)._asdict()

    def absorb(self, kept: Kept, increment: Tensor) -> Kept:
        """Return the sketch of β₂C + MMᵀ; roots whose squares overflow are infinite."""
        found = absorb(
            Sketch(**kept),
            increment,
            beta2=self.beta2,
            tail_decay=self.tail_decay,
            solver=self.solver,
        )
        roots = torch.where(found.roots.square().isfinite(), found.roots, torch.inf)
        return found._replace(roots=roots)._asdict()

    def refresh(self, kept: Kept, exponent: float) -> Kept:
        """Return nothing new: powers are applied from the sketch itself."""
        return {}

    def apply(self, kept: Kept, x: Tensor, exponent: float) -> Tensor:
        """Return C^exponent x, in 4dkn operations."""
        return power(self.regularised(Sketch(**kept)), x, exponent)

    def escaped_share(self, kept: Kept) -> Tensor:
        """Return ρ / (ρ + Σλ) of each sketch; 0 of one that holds nothing."""
        sketch = Sketch(**kept)
        whole = sketch.tail + sketch.roots.square().sum(-1)
        return torch.where(whole == 0, 0, sketch.tail / whole)

    def regularised(self, sketch: Sketch) -> Sketch:
        """Return the matrix whose powers are applied, as a sketch: its tail lies beside U alone."""
        values = sketch.roots.square()
        largest = values[..., 0]
        tail = {
            "dynamic": sketch.tail,
            "fixed": torch.full_like(sketch.tail, self.delta),
            "none": torch.zeros_like(sketch.tail),
        }[self.tail]
        ridge = self.epsilon * (largest + tail)
        unseen, floor = tail == 0, torch.zeros_like(tail)  # projected out
        if self.tail == "dynamic" and self.tail_floor == "smallest":
            rounding = torch.finfo(values.dtype).eps * largest
            weakest = torch.where(values > rounding.unsqueeze(-1), values, torch.inf).amin(-1)
            unseen, floor = tail <= rounding, torch.where(weakest.isfinite(), weakest + ridge, 0)
        beside = torch.where(unseen, floor, tail + ridge)
        shifted = (values + (tail + ridge - beside).unsqueeze(-1)).clamp_min(0).sqrt()
        roots = torch.where(unseen.unsqueeze(-1), shifted, sketch.roots)
        return sketch._replace(roots=torch.where(sketch.roots > 0, roots, 0), tail=beside)
