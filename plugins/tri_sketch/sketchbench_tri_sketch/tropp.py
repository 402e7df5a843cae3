"""The three-sketch reconstruction of a matrix, from both of its sides and its core."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from sketchbench.measure import category
from sketchbench_tri_sketch.draws import Drawing, wide
from sketchbench_tri_sketch.ema import EMA, refuse_to_redraw
from sketchbench_tri_sketch.triangular import least_squares

RANGE, CORE = 0, 2  # purposes of draws: two each


class Tropp(Drawing):
    """Sketches X = ΥM (k, d), Y = MΩ (n, k), Z = ΦMΨᵀ (s, s) of M = A, or of the EMA of A's.

    Â = Q·(ΦQ)⁺Z((ΨP)⁺)ᵀ·Pᵀ with Q = qr(Y), P = qr(Xᵀ). [Tropp, Yurtsever, Udell & Cevher 2019, §2]
    Υ, Ω, Φ, Ψ are Gaussian and drawn again from a seed. Kept are X, Y and Z, which for β > 0 are
    the state itself: k(n + d) + s² numbers.
    """

    method = "tri-sketch"

    def __init__(
        self,
        size: int,
        core_size: int,
        rng: Generator,
        fresh: bool = False,
        decay: float = 0.0,
        corrected: bool = True,
    ) -> None:
        """Take k, s, and whether projections are drawn anew each step (never with an EMA)."""
        super().__init__(rng)
        self.size, self.core_size = size, core_size
        self.fresh, self.corrected = fresh, corrected
        self.moves = fresh or decay > 0
        self.oversampled = core_size > size
        self.inputs, self.outputs, self.core = EMA(decay), EMA(decay), EMA(decay)  # X, Y, Z

    def keep(
        self, rows: Tensor, outputs: Tensor | None, update: bool
    ) -> tuple[list[Tensor], dict[str, Any]]:
        """Return X, Y, Z, and what tells the projections that belong to them.

        A batch of n rows, fewer than the EMA's, is seen by the first n rows of Υᵀ and Φᵀ.
        """
        with category("sketch"):
            a = rows.to(wide(rows.dtype))
            step = self.turn(update) if self.fresh else 0
            left, right = self._drawn(self.size, step, RANGE, a.shape, a)
            y = self.outputs.averaged(a @ right, update)  # first: it refuses a larger batch
            x = self.inputs.averaged(left.mT @ a, update)
            up, down = self._drawn(self.core_size, step, CORE, a.shape, a)
            z = self.core.averaged(up.mT @ a @ down, update)
        mass = self.core.mass if self.corrected else 1.0
        return [x, y, z], {"step": step, "mass": mass}

    def gradient(self, delta: Tensor, kept: Any, note: Any) -> Tensor:
        """Return (δᵀQ)C Pᵀ; nothing of A's size is made."""
        x, y, z = kept
        left, right = torch.linalg.qr(y)[0], torch.linalg.qr(x.mT)[0]  # Q (n, k), P (d, k)
        up, down = self._drawn(self.core_size, note["step"], CORE, (len(y), x.shape[1]), x)
        half = least_squares(up.mT @ left, z / note["mass"])
        core = least_squares(down.mT @ right, half.mT).mT
        product: Tensor = delta.to(x.dtype).mT @ left[: len(delta)] @ core @ right.mT
        return product

    def redraw(self) -> None:
        """Draw other projections; raise `RuntimeError` while an EMA lives on these."""
        refuse_to_redraw(self.method, self.core)
        super().redraw()

    def resize(self, rank: int) -> None:
        """Start anew with k = 2·rank + 1: sketches, projections and counters together."""
        self.size = 2 * rank + 1
        self.core_size = 2 * self.size + 1 if self.oversampled else self.size
        for sketch in (self.inputs, self.outputs, self.core):
            sketch.clear()
        self.redraw()

    def get_extra_state(self) -> dict[str, Any]:
        """Return the seed, the count of steps, and the sizes of the sketches."""
        sizes = {"size": self.size, "core_size": self.core_size}
        return {**super().get_extra_state(), **sizes}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a state that `get_extra_state` returned."""
        super().set_extra_state(state)
        self.size, self.core_size = state["size"], state["core_size"]

    def _drawn(
        self, size: int, step: int, purpose: int, shape: tuple[int, ...], like: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return Υᵀ (n, k) and Ω (d, k), or Φᵀ (n, s) and Ψᵀ (d, s)."""
        rows, width = shape
        return (
            self.normal(rows, size, step, like, purpose),
            self.normal(width, size, step, like, purpose + 1),
        )
