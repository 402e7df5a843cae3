"""The a-posteriori error of a reading: what one more sketch says of what it lost."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from sketchbench.measure import category
from sketchbench_tri_sketch.draws import Drawing, wide
from sketchbench_tri_sketch.reading import Reading


class Probed(Drawing):
    """A reading that keeps ΘA (q, d) as well, and compares it with ΘÂ in the backward pass.

    ‖Θ(A−Â)‖²/q is unbiased for ‖A−Â‖² with a fresh Gaussian Θ (q, n). The relative spread of its
    root is ‖EEᵀ‖/(√(2q)·‖E‖²) for the error E: 22 % for rank one and q = 10, less the flatter its
    spectrum. [Tropp, Yurtsever, Udell & Cevher 2019, §6] ΘÂ is the gradient at δ = Θᵀ, so that
    any reading can be probed; it costs q more columns of δ.
    """

    def __init__(self, reading: Reading, rows: int, rng: Generator) -> None:
        """Take the reading and q, the rows of Θ."""
        super().__init__(rng)
        self.reading, self.size = reading, rows
        self.method = reading.method  # type: ignore[misc]
        self.twice = reading.twice  # type: ignore[misc]
        self.looks_ahead = reading.looks_ahead  # type: ignore[misc]
        self._sum: Tensor | None = None  # of squared relative errors
        self._count = 0

    def keep(
        self, rows: Tensor, outputs: Tensor | None, update: bool
    ) -> tuple[list[Tensor], dict[str, Any]]:
        """Return what the reading keeps, ΘA (q, d) and ‖A‖²."""
        kept, note = self.reading.keep(rows, outputs, update)
        step = self.turn(update)
        with category("sketch"), torch.no_grad():
            a = rows.detach().to(wide(rows.dtype))
            sketch = self._drawn(step, len(a), a).mT @ a
            norm = torch.linalg.norm(a) ** 2
        return [*kept, sketch, norm], {"step": step, "note": note}

    def gradient(self, delta: Tensor, kept: Any, note: Any) -> Tensor:
        """Return the reading's gradient, and take note of the error."""
        *inner, sketch, norm = kept
        drawn = self._drawn(note["step"], len(delta), sketch)
        both = self.reading.gradient(
            torch.cat([delta.to(drawn.dtype), drawn], 1), inner, note["note"]
        )
        gradient, found = both[: delta.shape[1]], both[delta.shape[1] :].detach()
        lost = torch.linalg.norm(found - sketch) ** 2 / self.size
        share = lost / norm.clamp_min(torch.finfo(norm.dtype).tiny)
        self._sum = share if self._sum is None else self._sum.to(share) + share
        self._count += 1
        return gradient

    def error(self) -> Tensor | None:
        """Return the mean over steps of ‖Θ(A−Â)‖²/(q‖A‖²), and start again."""
        mean = None if self._sum is None else self._sum / self._count
        self._sum, self._count = None, 0
        return mean

    def resize(self, rank: int) -> None:
        """Start the reading anew with another rank; errors of the old one are forgotten."""
        self.reading.resize(rank)
        self._sum, self._count = None, 0

    def redraw(self) -> None:
        """Let the reading draw other projections, if it draws and may; draw another Θ."""
        if isinstance(self.reading, Drawing):
            self.reading.redraw()
        super().redraw()

    def get_extra_state(self) -> dict[str, Any]:
        """Return the errors since they were last asked for, besides the seed and the steps."""
        errors = {"sum": self._sum, "count": self._count}
        return {**super().get_extra_state(), **errors}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a state that `get_extra_state` returned."""
        super().set_extra_state(state)
        self._sum, self._count = state["sum"], state["count"]

    def _drawn(self, step: int, rows: int, like: Tensor) -> Tensor:
        return self.normal(rows, self.size, step, like)


def reconstruction(reading: Reading, rows: Tensor, outputs: Tensor | None = None) -> Tensor:
    """Return Â (n, d), what `reading` makes of A (n, d): its gradient at δ = I."""
    kept, note = reading.keep(rows, outputs, update=True)
    return reading.gradient(torch.eye(len(rows), dtype=rows.dtype, device=rows.device), kept, note)
