"""Linear costs ⟨G, X⟩ whose second moment is planted: streams for online learning; synthetic."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal, Self

import torch
from pydantic import model_validator

from sketchbench import Field, Shapes, Split, Task

if TYPE_CHECKING:
    from torch import Generator, Tensor

WORLD, STREAM = 2, 0  # seeds of the first world's basis, and of its costs
WORLDS = 3  # seeds from one world to the next


class LinearCosts(Task):
    """Costs G, vectors or matrices with E‖G‖² = 1, drawn i.i.d.; the loss is ⟨G, X⟩. Synthetic.

    `orthonormal`: one of `rank` orthonormal directions at random, times ±1, positive with
    probability (1 + bias)/2 [Feinberg et al. 2023, Obs. 2, at bias 1]. `power`: coefficients
    √λᵢ(bias + √(1 − bias²)·z) along an orthonormal basis, z standard normal and λᵢ ∝ i^(−exponent);
    of a matrix along a product of one basis an axis, λ being the product. `flat`: exponent 0.
    Without bias no point is better than another in expectation. In float64, for directions without
    variance to be empty. The seed of a run draws the order and choice of costs; they and the basis
    are drawn by `world` alone. Losses are in the unit of the costs, where a metric says nats.
    """

    name = "linear-costs"
    shape: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (64,), min_length=1, max_length=2, description="Of a cost: (d,) or (m, n)."
    )
    spectrum: Literal["orthonormal", "power", "flat"] = Field(
        "orthonormal", description="How costs are drawn."
    )
    rank: int = Field(16, ge=1, description="Directions of spectrum `orthonormal`.")
    exponent: float = Field(1.0, ge=0, description="Decay of spectrum `power`, along each axis.")
    bias: float = Field(1.0, ge=0, le=1, description="0: costs of mean 0; 1: all of one sign.")
    examples: int = Field(10_000, ge=1, description="Costs.")
    world: int = Field(0, ge=0, description="Seed of the basis and of the costs.")

    @property
    def shapes(self) -> Shapes:
        """A cost, and one output."""
        return Shapes(self.shape, 1)

    def load(self, split: Literal["train", "test"]) -> Split:
        """Draw the costs; the test split is like the training split."""
        rng = torch.Generator().manual_seed(WORLDS * self.world + STREAM + (split == "test"))
        world = torch.Generator().manual_seed(WORLDS * self.world + WORLD)
        bases = [_basis(size, world) for size in self.shape]
        costs = self._coefficients(rng, world)
        for axis, basis in enumerate(bases, 1):
            costs = (costs.movedim(axis, -1) @ basis.mT).movedim(-1, axis)
        return Split(costs.contiguous(), torch.zeros(self.examples))

    def blank(self, split: Literal["train", "test"]) -> Split:
        """Return costs of 0."""
        costs = torch.zeros(self.examples, *self.shape, dtype=torch.double)
        return Split(costs, torch.zeros(self.examples))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean output: targets mean nothing."""
        return outputs.mean()

    def _coefficients(self, rng: Generator, world: Generator) -> Tensor:
        """Return the costs (n, *shape) in the planted basis, in double precision."""
        size = math.prod(self.shape)
        if self.spectrum == "orthonormal":
            places = torch.randperm(size, generator=world)[: self.rank]
            which = places[torch.randint(self.rank, (self.examples,), generator=rng)]
            positive = torch.rand(self.examples, generator=rng) < (1 + self.bias) / 2
            signs = torch.where(positive, 1.0, -1.0).double()
            costs = torch.zeros(self.examples, size, dtype=torch.double)
            costs.scatter_(1, which[:, None], signs[:, None])
            return costs.view(self.examples, *self.shape)
        values = torch.ones((), dtype=torch.double)
        for length in self.shape:
            decay = -self.exponent if self.spectrum == "power" else 0.0
            values = values[..., None] * torch.arange(1, length + 1, dtype=torch.double).pow(decay)
        roots = (values / values.sum()).sqrt()
        noise = torch.randn(self.examples, *self.shape, generator=rng, dtype=torch.double)
        drawn: Tensor = roots * (self.bias + math.sqrt(1 - self.bias**2) * noise)
        return drawn

    @model_validator(mode="after")
    def _rank_fits(self) -> Self:
        size = math.prod(self.shape)
        if self.spectrum == "orthonormal" and self.rank > size:
            raise ValueError(f"linear-costs: rank {self.rank} is more than the {size} entries")
        return self


def _basis(size: int, rng: Generator) -> Tensor:
    """Return a random orthonormal basis (size, size), in double precision."""
    drawn = torch.randn(size, size, generator=rng, dtype=torch.double)
    basis: Tensor = torch.linalg.qr(drawn)[0]
    return basis
