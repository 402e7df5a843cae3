"""Scores of the spectra of Kronecker factors: how few directions hold them, and how they turn."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, Self

import torch
from pydantic import model_validator

from sketchbench import Field, Missing, Score
from sketchbench.builtin.workloads.factors import FactorSpectra


class IntrinsicDimension(Score):
    """Intrinsic dimension tr/λ₁ of factors, 1 to their size. [Feinberg et al. 2023, Figure 3]

    Read it beside the workload `gaussian-control`, which has what gradients without structure
    would show; the factors of a narrow layer are few-dimensional whatever they hold.
    """

    name = "intrinsic_dimension"
    consumes = FactorSpectra
    unit = "1"
    direction = "lower"
    margin = 0.05
    relative = True

    over: Literal["median", "mean", "max"] = Field(
        "median", description="What is taken of all factors."
    )
    smallest: int = Field(2, ge=2, description="Size from which a factor counts.")

    def __call__(self, outcome: FactorSpectra) -> float:
        """Return it; raise `Missing` where no factor counts and differs from 0."""
        sizes = dict(zip(outcome.names, map(len, outcome.values), strict=True))
        counted = [v for n, v in outcome.intrinsic().items() if sizes[n] >= self.smallest]
        return _taken(counted, self.over, f"no factor of size {self.smallest} or more has a value")


class TopMass(Score):
    """Share of the k largest eigenvalues in the trace: the median over factors larger than k.

    With `fraction` k is that of each factor's size: factors of several sizes then compare.
    """

    name = "top_mass"
    consumes = FactorSpectra
    unit = "fraction"
    direction = "higher"
    margin = 0.02

    k: int | None = Field(
        None, ge=1, description="Eigenvalues counted; null for the workload's `leading`."
    )
    fraction: float | None = Field(
        None, gt=0, lt=1, description="Of each factor's eigenvalues, in place of k."
    )
    over: Literal["median", "mean", "min"] = Field(
        "median", description="What is taken of all factors."
    )

    def __call__(self, outcome: FactorSpectra) -> float:
        """Return it; raise `Missing` where no factor is larger than k and differs from 0."""
        if self.fraction is not None:
            shares = outcome.mass(fraction=self.fraction)
            return _taken(shares.values(), self.over, "no factor differs from 0")
        count = outcome.leading if self.k is None else self.k
        return _taken(outcome.mass(count).values(), self.over, f"no factor is larger than {count}")

    @model_validator(mode="after")
    def _one_number(self) -> Self:
        if self.k is not None and self.fraction is not None:
            raise ValueError(
                f"top_mass: k {self.k} and fraction {self.fraction:g} exclude each other"
            )
        return self


class Rotation(Score):
    """How far the leading spaces turned since the last checkpoint: the median over factors.

    The mean of 1 − cos² over principal angles: 0 for the same space, 1 for orthogonal ones; of
    two random spaces of dimension k in d it is 1 − k/d.
    """

    name = "rotation"
    consumes = FactorSpectra
    unit = "fraction"
    direction = "lower"
    margin = 0.02

    over: Literal["median", "mean", "max"] = Field(
        "median", description="What is taken of all factors."
    )

    def __call__(self, outcome: FactorSpectra) -> float:
        """Return it; raise `Missing` at the first checkpoint, and without such spaces."""
        return _taken(
            outcome.rotation,
            self.over,
            f"no factor has a space of dimension {outcome.leading} at two checkpoints",
        )


def _taken(values: Iterable[float], over: str, otherwise: str) -> float:
    """Return the median, mean, max or min of the finite values; raise `Missing` of none."""
    finite = torch.tensor([v for v in values if math.isfinite(v)], dtype=torch.float64)
    if not len(finite):
        raise Missing(otherwise)
    match over:
        case "median":
            return finite.quantile(0.5).item()
        case "mean":
            return finite.mean().item()
        case "max":
            return finite.max().item()
        case _:
            return finite.min().item()
