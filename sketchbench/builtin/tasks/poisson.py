"""Poisson's equation on the unit square, as points at which a network meets it or fails to."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch

from sketchbench import Field, Shapes, Split, Task

if TYPE_CHECKING:
    from torch import Tensor

SEEDS = {"interior": 0, "boundary": 1}


class Poisson(Task):
    """−Δu = f on [0, 1]² with u = sin πx·sin πy, which is 0 on the boundary and f = 2π²u.

    Inputs are points (n, 2), uniform in the square and on its boundary, drawn once and for all;
    test points are a regular grid, borders included. Outputs are (n, 2): u and Δu. Targets are
    (n, 4): the right-hand side, f inside and u on the boundary; the weight of the equation's
    residual; that of the boundary's; and the exact u. The loss is the mean over rows of
    weight·residual², so it splits over batches, and on a whole split it is the mean of
    (Δu + f)² over interior points, plus `boundary_weight` times that of u² over boundary points
    [Raissi Perdikaris Karniadakis 2019].
    """

    name = "poisson"
    interior: int = Field(1000, ge=1, description="Training points inside the square.")
    boundary: int = Field(200, ge=1, description="Training points on its boundary.")
    boundary_weight: float = Field(
        100.0, gt=0, description="Weight of the boundary's residual beside the equation's."
    )
    grid: int = Field(51, ge=3, description="Test points along each side.")

    @property
    def shapes(self) -> Shapes:
        """A point (2,), and two outputs, u and Δu."""
        return Shapes((2,), 2)

    def load(self, split: Literal["train", "test"]) -> Split:
        """Draw the training points, or lay out the grid."""
        inside, edge = self._drawn() if split == "train" else self._laid_out()
        points = torch.cat([inside, edge])
        exact = (torch.pi * points).sin().prod(dim=1)
        marks = torch.arange(len(points)) < len(inside)
        equation = marks * (len(points) / len(inside))
        border = ~marks * (self.boundary_weight * len(points) / len(edge))
        exact = torch.where(marks, exact, 0.0)  # sin π isn't
        right = torch.where(marks, 2 * math.pi**2 * exact, exact)
        return Split(points.float(), torch.stack([right, equation, border, exact], 1).float())

    def blank(self, split: Literal["train", "test"]) -> Split:
        """Return a split of as many points at the origin."""
        count = self.interior + self.boundary if split == "train" else self.grid**2
        return Split(torch.zeros(count, 2), torch.zeros(count, 4))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean weighted square of the residuals."""
        value, laplacian = outputs.unbind(1)
        right, equation, border, _ = targets.unbind(1)
        return (equation * (laplacian + right).square() + border * (value - right).square()).mean()

    def _drawn(self) -> tuple[Tensor, Tensor]:
        """Return the training points inside and on the boundary, in double precision."""
        rng = {name: torch.Generator().manual_seed(seed) for name, seed in SEEDS.items()}
        inside = torch.rand(self.interior, 2, generator=rng["interior"], dtype=torch.float64)
        along = 4 * torch.rand(self.boundary, generator=rng["boundary"], dtype=torch.float64)
        side, rest = along.floor(), along.frac()
        edge = torch.where(
            (side % 2 == 0)[:, None],
            torch.stack([rest, side // 2], 1),  # below and above
            torch.stack([side // 2, rest], 1),  # left and right
        )
        return inside, edge

    def _laid_out(self) -> tuple[Tensor, Tensor]:
        """Return the grid's points inside and on the boundary, in double precision."""
        line = torch.linspace(0, 1, self.grid, dtype=torch.float64)
        points = torch.cartesian_prod(line, line)
        inside = ((points > 0) & (points < 1)).all(dim=1)
        return points[inside], points[~inside]
