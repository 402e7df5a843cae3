"""Two candidate readings of a reconstruction whose equations are not available to us."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Generator, Tensor

from sketchbench.measure import category
from sketchbench_tri_sketch.draws import Drawing, wide
from sketchbench_tri_sketch.ema import EMA, refuse_to_redraw
from sketchbench_tri_sketch.triangular import least_squares

IN, OUT, BETWEEN, WEIGHTS = range(4)  # purposes of draws


class Candidate(Drawing):
    """One of two candidate readings of equations (6)-(7) of arXiv 2510.00442.

    These equations are not available to us: public fragments give the three sketches and "two-stage
    QR and least squares, Ĝ = Q_Y C Q_Xᵀ, then batch projection". The shapes admit, with A (n, d)
    the layer's input and A′ (n, m) its output after the non-linearity,

        X ← βX + (1−β)AᵀΥ, Y ← βY + (1−β)A′ᵀΩ, Z ← βZ + (1−β)(A′ᵀΦ)⊙Ψᵀ      (d | m | m, k)
        C R_X = Q_YᵀZ with X = Q_X R_X, Y = Q_Y R_Y; Ĝ = Q_Y C Q_Xᵀ          (m, d)
        Â = ΩY⁺Ĝ (p1) or (Ω⁺)ᵀYᵀĜ (p2)                                      (n, d)

    Neither recovers anything: even for a linear layer and activations of exact rank 2 the cosine
    of Â and A is 0 within 0.02 [measured]. Where they differ from the fragments:

    1. Υ, Ω, Φ (n, k) are drawn for each layer, not shared by all, and again from a seed.
    2. Ψ is a vector (k,), broadcast over rows: a guess.
    """

    method = "tri-sketch"
    looks_ahead = True

    def __init__(
        self,
        which: Literal["p1", "p2"],
        size: int,
        rng: Generator,
        decay: float = 0.95,
        corrected: bool = True,
    ) -> None:
        """Take k: the candidates need s = k."""
        super().__init__(rng)
        self.which, self.size, self.corrected = which, size, corrected
        self.moves = decay > 0
        self.inputs, self.outputs, self.between = EMA(decay), EMA(decay), EMA(decay)  # X, Y, Z

    def keep(
        self, rows: Tensor, outputs: Tensor | None, update: bool
    ) -> tuple[list[Tensor], float]:
        """Return X, Y, Z; a batch with fewer rows than the first is seen by their first rows."""
        if outputs is None:
            raise ValueError("tri-sketch: its candidates need the layer's outputs")
        with category("sketch"):
            a = rows.to(wide(rows.dtype))
            after = outputs.to(a.dtype)
            drawn = [self.normal(len(a), self.size, 0, a, each) for each in (IN, OUT, BETWEEN)]
            x = self.inputs.averaged(a.mT @ drawn[0], update)
            y = self.outputs.averaged(after.mT @ drawn[1], update)
            weights = self.normal(1, self.size, 0, a, WEIGHTS)
            z = self.between.averaged(after.mT @ drawn[2] * weights, update)
        mass = self.between.mass if self.corrected else 1.0
        return [x, y, z], mass

    def gradient(self, delta: Tensor, kept: Any, note: Any) -> Tensor:
        """Return δᵀÂ; nothing of A's size is made."""
        x, y, z = (sketch / note for sketch in kept)
        drawn = self.normal(len(delta), self.size, 0, x, OUT)
        (left, upper), (right, triangle) = torch.linalg.qr(y), torch.linalg.qr(x)
        core = least_squares(triangle.mT, (left.mT @ z).mT).mT
        if self.which == "p1":
            lifted = drawn @ least_squares(upper, core)
        else:
            basis, square = torch.linalg.qr(drawn)
            lifted = basis @ least_squares(square.mT, upper.mT @ core)
        product: Tensor = delta.to(x.dtype).mT @ lifted @ right.mT
        return product

    def redraw(self) -> None:
        """Draw other projections; raise `RuntimeError` while an EMA lives on these."""
        refuse_to_redraw(self.method, self.between)
        super().redraw()

    def resize(self, rank: int) -> None:
        """Start anew with k = 2·rank + 1: sketches, projections and counters together."""
        self.size = 2 * rank + 1
        for sketch in (self.inputs, self.outputs, self.between):
            sketch.clear()
        self.redraw()

    def get_extra_state(self) -> dict[str, Any]:
        """Return the seed and the size of the sketches."""
        return {**super().get_extra_state(), "size": self.size}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a state that `get_extra_state` returned."""
        super().set_extra_state(state)
        self.size = state["size"]
