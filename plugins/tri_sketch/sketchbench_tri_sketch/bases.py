"""Readings that keep activations in a basis of features: a random one, and the best one."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Generator, Tensor

from sketchbench import Field
from sketchbench.measure import category
from sketchbench_tri_sketch.draws import Drawing, wide
from sketchbench_tri_sketch.reading import Reading
from sketchbench_tri_sketch.recipes import RankSketch
from sketchbench_tri_sketch.rows import rows_above


class RandBasis(RankSketch):
    """Keep AG (n, k) for a random G (d, k); Â = AGGᵀ.

    `fixed`: one orthonormal G for all steps, as in LoRA-FA [Zhang et al. 2023, arXiv 2308.03303];
    biased. `fresh`: Gaussian entries N(0, 1/k) from a new seed each step, as in CompAct
    [Shamshoum et al. 2024, arXiv 2410.15352]; unbiased. Where it differs:

    1. LoRA-FA and CompAct train in the space of the sketch; here the gradient is mapped back, so
       that any optimizer trains the weights themselves.
    2. CompAct renews its projection every T steps; here it is every step.
    """

    name = "rand-basis"
    projections: Literal["fixed", "fresh"] = Field(
        "fresh", description="Orthonormal and the same for all steps, or Gaussian and new in each."
    )

    def reading(
        self, width_in: int, width_out: int, batch_rows: int | None, rng: Generator
    ) -> Reading:
        """Return the projection of one layer's features."""
        return _Fixed(self.k, width_in, rng) if self.projections == "fixed" else _Fresh(self.k, rng)

    def break_even(self, width: int) -> int | None:
        """Return the rows from which their k numbers, a fixed G and ReLU's bits are less; or None.

        A fresh G is drawn again in the backward pass, and takes nothing.
        """
        if self.projections == "fresh":
            return rows_above(0, width, 4 * self.k)
        columns = min(width, self.k)
        return rows_above(4 * columns * width, width, 4 * columns)


class SVDOracle(RankSketch):
    """Keep the best approximation of A of rank k: no basis of k features is better.

    An oracle, not a method: it pays a singular value decomposition a layer and step.
    [Eckart & Young 1936] What it still loses, every top-subspace method loses.
    """

    name = "svd-oracle"

    def reading(
        self, width_in: int, width_out: int, batch_rows: int | None, rng: Generator
    ) -> Reading:
        """Return the best approximation of one layer's inputs."""
        return _Best(self.k)

    def break_even(self, width: int) -> int | None:
        """Return the rows from which k (n + d) numbers and ReLU's bits are less; or None."""
        return rows_above(4 * self.k * width, width, 4 * self.k)


class _Fresh(Drawing):
    """AG (n, k) for G (d, k) drawn again in the backward pass."""

    method = "rand-basis"

    def __init__(self, size: int, rng: Generator) -> None:
        super().__init__(rng)
        self.size = size

    def keep(self, rows: Tensor, outputs: Tensor | None, update: bool) -> tuple[list[Tensor], Any]:
        with category("sketch"):
            a = rows.to(wide(rows.dtype))
            step = self.turn(update)
            return [a @ self._drawn(a.shape[1], step, a)], (a.shape[1], step)

    def gradient(self, delta: Tensor, kept: Any, note: Any) -> Tensor:
        (projected,) = kept
        width, step = note
        drawn = self._drawn(width, step, projected)
        product: Tensor = delta.to(projected.dtype).mT @ projected @ drawn.mT
        return product

    def _drawn(self, width: int, step: int, like: Tensor) -> Tensor:
        drawn = self.normal(width, self.size, step, like)
        return drawn.mul_(self.size**-0.5)


class _Fixed(Drawing):
    """AQ (n, k) for an orthonormal Q (d, k), which lives as long as the layer."""

    method = "rand-basis"
    moves = False
    basis: Tensor

    def __init__(self, size: int, width: int, rng: Generator) -> None:
        super().__init__(rng)
        self.size, self.width = size, width
        self.register_buffer("basis", self._drawn(torch.empty(0)), persistent=False)

    def keep(self, rows: Tensor, outputs: Tensor | None, update: bool) -> tuple[list[Tensor], None]:
        with category("sketch"):
            basis = self.basis.to(wide(rows.dtype))
            return [rows.to(basis.dtype) @ basis, basis], None

    def gradient(self, delta: Tensor, kept: Any, note: Any) -> Tensor:
        projected, basis = kept
        product: Tensor = delta.to(projected.dtype).mT @ projected @ basis.mT
        return product

    def redraw(self) -> None:
        """Go over to another seed, and to its basis."""
        super().redraw()
        with category("sketch"):
            self.basis = self._drawn(self.basis)

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self.basis = self._drawn(self.basis)

    def _drawn(self, like: Tensor) -> Tensor:
        drawn = self.normal(self.width, self.size, 0, torch.empty(0))
        basis: Tensor = torch.linalg.qr(drawn)[0].to(like)
        return basis


class _Best(Reading):
    """US (n, k) and Vᵀ (k, d) of A's k largest singular values."""

    method = "svd-oracle"
    moves = False

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def keep(self, rows: Tensor, outputs: Tensor | None, update: bool) -> tuple[list[Tensor], None]:
        finite = rows.to(wide(rows.dtype)).nan_to_num()  # no decomposition of what has diverged
        left, values, right = torch.linalg.svd(finite, full_matrices=False)
        with category("sketch"):
            size = self.size
            return [left[:, :size] * values[:size], right[:size].clone()], None

    def gradient(self, delta: Tensor, kept: Any, note: Any) -> Tensor:
        left, right = kept
        product: Tensor = delta.to(left.dtype).mT @ left @ right
        return product
