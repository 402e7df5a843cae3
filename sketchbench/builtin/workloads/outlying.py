"""What a look at a spectrum finds: its ends, and how much of the gradient its outliers hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from sketchbench import LinearSketch
    from sketchbench.curvature import Density, Estimate, Krylov


@dataclass(frozen=True)
class LooksAt:
    """Ritz values (m,), ascending, and the norms of their residuals (m,); float64, on the CPU."""

    values: Tensor
    residuals: Tensor

    @classmethod
    def of(cls, krylov: Krylov) -> LooksAt:
        """Keep these of a Krylov space."""
        return cls(krylov.values, krylov.residuals)

    def top(self, count: int) -> Tensor:
        """Return the largest values (count,) or fewer, in descending order."""
        return self.values.flip(0)[:count]

    def negative_ratio(self) -> float:
        """Return RNEG = |λ_min| / λ_max, 0 without negative values, NaN without positive ones."""
        least, most = self.values[0].item(), self.values[-1].item()
        return max(-least, 0.0) / most if most > 0 else math.nan


@dataclass(frozen=True)
class Shares:
    """‖Pg‖²/‖g‖² for the projection P on the outliers' space, of `size` dimensions.

    Of the gradient, and the means over random vectors and over permutations of the gradient's
    entries: what the space would hold of anything. Through a sketch all are of images Sx.
    """

    size: int
    gradient: float
    random: float
    permuted: float


@dataclass(frozen=True)
class Looked:
    """Outcome: the spectrum of curvature (N, N) as seen through a sketch (D, N), if any.

    `seen` is the spectrum, `exact` that without the sketch, `smaller` that through one of
    D / `divisor`, where they were asked for. `basis_bytes` is what Lanczos held.
    """

    size: int
    out_size: int | None
    classes: int
    seen: LooksAt
    exact: LooksAt | None
    smaller: LooksAt | None
    divisor: int | None
    basis_bytes: int
    above: float
    shares: Shares
    density: Density | None
    trace: Estimate | None

    def told(self) -> Mapping[str, float | int | None]:
        """Return what a record keeps of it."""
        numbers: dict[str, float | int | None] = {
            "size": self.size,
            "out_size": self.out_size,
            "outliers": self.shares.size,
            "gradient_share": self.shares.gradient,
            "random_share": self.shares.random,
            "permuted_share": self.shares.permuted,
        }
        for name, looked in (("", self.seen), ("exact_", self.exact), ("smaller_", self.smaller)):
            if looked is not None:
                numbers[f"{name}least"] = looked.values[0].item()
                top = enumerate(looked.top(10).tolist(), start=1)
                numbers |= {f"{name}lambda_{place}": value for place, value in top}
        return numbers


class Nulls:
    """What an outlier space holds of a gradient, beside what it holds of vectors without meaning.

    `count` random vectors and as many permutations of the gradient, drawn on the CPU.
    """

    def __init__(self, sketch: LinearSketch | None, count: int, rng: Generator) -> None:
        self._sketch = sketch
        self._count = count
        self._rng = rng

    def shares(self, gradient: Tensor, krylov: Krylov, above: float) -> Shares:
        """Return the shares of the space whose Ritz values are positive and > `above`·λ_max."""
        most = krylov.values[-1]
        chosen = (krylov.values > above * most) & (krylov.values > 0)
        space = krylov.vectors(chosen)
        rng, size = self._rng, len(gradient)
        random, permuted = [], []
        for _ in range(self._count):
            drawn = torch.randn(size, generator=rng)
            random.append(self._share(drawn.to(gradient), space))
            order = torch.randperm(size, generator=rng).to(gradient.device)
            permuted.append(self._share(gradient[order], space))
        return Shares(
            size=int(chosen.sum()),
            gradient=self._share(gradient, space),
            random=_mean(random),
            permuted=_mean(permuted),
        )

    def _share(self, vector: Tensor, space: Tensor) -> float:
        """Return ‖Px‖²/‖x‖² of a vector's image for orthonormal rows; 0 of a zero vector."""
        image = vector if self._sketch is None else self._sketch.apply(vector)
        whole = image.norm() ** 2
        return ((space @ image).norm() ** 2 / whole).item() if whole > 0 else 0.0


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
