"""An EMA of sketches as a basis of features, and the batch projected on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from sketchbench import Field
from sketchbench.measure import category
from sketchbench_tri_sketch.controllers import Adaptive
from sketchbench_tri_sketch.draws import Drawing
from sketchbench_tri_sketch.projections import drawn
from sketchbench_tri_sketch.reading import Reading


class EmaBasis(Adaptive):
    """X ← βX + (1−β)·AᵀΥ (d, k), Q = qr(X); keep B = AQ (n, k) and Q: ĝ = δᵀB Qᵀ, Â = AQQᵀ.

    The X-sketch of arXiv 2510.00442 with its fixed Gaussian Υ (n, k), which is drawn from a seed
    again in each step. The samples' identity is in B, of this batch; the EMA supplies the subspace
    alone, so that β may be 0. Where it differs from the paper:

    1. The reconstruction, equations 6–7, isn't known to us: this reading of "batch projection"
       takes the EMA for what it can tell, and mixes no samples of different batches.
    2. Q has this batch's update in it, and doesn't depend on the scale of X: dividing by the EMA's
       mass 1 − βᵗ (`average`) leaves it as it is.
    3. A batch of fewer rows takes the first rows of Υ.
    4. Υ is each layer's own, not shared by all.

    In second derivatives Q counts as constant: it is state, and B is linear in A.
    """

    name = "ema-basis"
    beta: float = Field(0.95, ge=0, lt=1, description="β, what the EMA keeps in each step.")
    mean_column: bool = Field(
        False, description="Let the batch's mean activation be in the basis, as one more column."
    )

    def reading(
        self, width_in: int, width_out: int, batch_rows: int | None, rng: Generator
    ) -> Reading:
        """Return the reading of one layer."""
        return self.probed(_EmaBasis(width_in, self.k, self.beta, self.mean_column, rng), rng)

    def break_even(self, width: int) -> int | None:
        """Return the least batch at which B, Q, X and the mask take less than the activation.

        X counts, though it lives from step to step. An activation has 4 bytes an entry, its mask
        an eighth of one. None where B alone is too wide.
        """
        columns = min(width, self.k + self.mean_column)
        state = 4 * width * self.k if self.beta else 0
        state += self.probe_bytes(width)
        saved = 31 * width - 32 * columns  # eighths of a byte, for each row
        return 8 * (4 * width * columns + state) // saved + 1 if saved > 0 else None


class _EmaBasis(Drawing):
    method = EmaBasis.name
    twice = True
    sketch: Tensor  # Σ (1−β) βᵗ⁻ˢ AₛᵀΥ (d, k) over steps s ≤ t; (0, k) where β = 0

    def __init__(self, width: int, k: int, decay: float, mean_column: bool, rng: Generator) -> None:
        super().__init__(rng)
        self.k, self.decay, self.mean_column = k, decay, mean_column
        self.moves = decay > 0
        with category("sketch"):  # of nothing, where nothing lives from step to step
            self.register_buffer("sketch", torch.zeros(width if decay else 0, k))

    def keep(
        self, rows: Tensor, outputs: Tensor | None, update: bool
    ) -> tuple[Sequence[Tensor], Any]:
        """Return B = AQ (n, k) and Q (d, k)."""
        with torch.no_grad():
            self.turn(update)
            columns = self._absorbed(rows, update).to(rows.dtype)
            if self.mean_column:
                columns = torch.cat([columns, rows.mean(0).unsqueeze(1)], dim=1)
            basis = torch.linalg.qr(columns).Q  # orthonormal, whatever the columns' rank
        return (rows @ basis, basis), None

    def gradient(self, delta: Tensor, kept: Sequence[Tensor], note: Any) -> Tensor:
        """Return δᵀB Qᵀ (m, d)."""
        projected, basis = kept
        product: Tensor = (projected.mT @ delta).mT @ basis.mT
        return product

    @property
    def average(self) -> Tensor:
        """The sketch of the batches' weighted mean (d, k): X/(1 − βᵗ). [Kingma & Ba 2015, §3]"""
        return self.sketch / (1 - self.decay ** max(1, self.steps))

    def redraw(self) -> None:
        """Draw another Υ; raise `RuntimeError` once an EMA of sketches with this one lives."""
        if self.steps and self.decay:
            raise RuntimeError(
                f"{self.method}: an EMA over {self.steps} steps lives on its projections, which "
                "can't be drawn anew without it; resize(rank) starts both"
            )
        super().redraw()

    def resize(self, rank: int) -> None:
        """Start anew with k = 2·rank + 1 columns: another Υ, no steps, an empty sketch."""
        super().redraw()
        self._shape(2 * rank + 1)

    def _absorbed(self, rows: Tensor, update: bool) -> Tensor:
        """Return X with the batch in it; a batch that is seen again is in it already."""
        if self.decay and not update:
            return self.sketch
        ours = rows.to(self.sketch.dtype)
        fresh = (drawn(self.seed, len(rows), self.k, ours).mT @ ours).mT
        return self.sketch.lerp_(fresh, 1 - self.decay) if self.decay else fresh

    def _shape(self, columns: int) -> None:
        self.k = columns
        with category("sketch"):
            self.sketch = self.sketch.new_zeros(len(self.sketch), columns)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Take the sketch with as many columns as it has there."""
        found = state_dict.get(f"{prefix}sketch")
        if found is not None and found.shape[1:] != self.sketch.shape[1:]:
            self._shape(found.shape[1])
        super()._load_from_state_dict(state_dict, prefix, *args)
