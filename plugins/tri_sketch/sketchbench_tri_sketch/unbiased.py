"""One fresh sketch a step and layer: the unbiased reading."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from sketchbench import Field
from sketchbench_tri_sketch.controllers import Adaptive
from sketchbench_tri_sketch.draws import Drawing
from sketchbench_tri_sketch.projections import Distribution, drawn
from sketchbench_tri_sketch.reading import Reading

Drawn = Callable[[int, int, Tensor], Tensor]  # step, rows n and what to be like ↦ U (n, k)


class Unbiased(Adaptive):
    """Keep X = UᵀA (k, d) with U (rows, k) fresh: ĝ = δᵀU X/k, E[ĝ] = g. [Bershatsky et al. 2022]

    U is drawn from a seed again in the backward pass. The X-sketch of arXiv 2510.00442 with β = 0;
    the total variance is (‖A‖²‖δ‖² + ‖g‖²)/k with Gaussian U, less with signs.
    """

    name = "unbiased"
    has_error = False
    projections: Literal["fresh", "fixed"] = Field(
        "fresh", description="U: fresh each step, or the same in all of them."
    )
    distribution: Distribution = Field(
        "gaussian", description="Entries of U: gaussian, or rademacher (±1)."
    )

    def reading(
        self, width_in: int, width_out: int, batch_rows: int | None, rng: Generator
    ) -> Reading:
        """Return the reading of one layer."""
        return _Unbiased(self.k, self.projections == "fresh", self.distribution, rng)

    def break_even(self, width: int) -> int | None:
        """Return the least batch at which X and the mask are smaller than the activation.

        An activation has 4 bytes an entry, its mask an eighth of one, X 4·k a column.
        """
        return 4 * self.k * 8 // 31 + 1


class _Unbiased(Drawing):
    method = Unbiased.name
    twice = True

    def __init__(self, k: int, fresh: bool, distribution: Distribution, rng: Generator) -> None:
        super().__init__(rng)
        self.k, self._fresh, self._distribution = k, fresh, distribution
        self.moves = fresh

    def keep(
        self, rows: Tensor, outputs: Tensor | None, update: bool
    ) -> tuple[Sequence[Tensor], Any]:
        """Return X = UᵀA (k, d), and the step, which tells U."""
        step = self.turn(update)
        projected: Tensor = _Projected.apply(rows, self._drawn, step)  # type: ignore[no-untyped-call]
        return (projected,), step

    def gradient(self, delta: Tensor, kept: Sequence[Tensor], note: Any) -> Tensor:
        """Return δᵀU X/k (m, d)."""
        drawn = self._drawn(note, len(delta), delta)
        product: Tensor = (drawn.mT @ delta / self.k).mT @ kept[0]
        return product

    def _drawn(self, step: int, rows: int, like: Tensor) -> Tensor:
        seed = self._seed_of(step if self._fresh else 0, 0)
        return drawn(seed, rows, self.k, like, self._distribution)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the number of columns besides seed and steps."""
        return {**super().get_extra_state(), "k": self.k}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a state that `get_extra_state` returned."""
        super().set_extra_state(state)
        self.k = state["k"]

    def resize(self, rank: int) -> None:
        """Start anew with k = 2·rank + 1 columns."""
        self.redraw()
        self.k = 2 * rank + 1


class _Projected(torch.autograd.Function):
    """A, U's step ↦ UᵀA (k, d); keeps the step alone, and is linear however often derived."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, drawn: Drawn, step: int) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.drawn, ctx.step, ctx.rows = drawn, step, len(rows)
        return drawn(step, len(rows), rows).mT @ rows

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None, None]:
        if grad is None:  # nobody differentiates twice
            return None, None, None
        return ctx.drawn(ctx.step, ctx.rows, grad) @ grad, None, None
