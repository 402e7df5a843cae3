"""Moments: means and total variances of pairs of gradients, in the memory of three."""

from __future__ import annotations

import torch
from torch import Tensor

from sketchbench import GradientSample


class Moments:
    """Running moments of pairs (ĝ, g) of vectors (P,), in double precision."""

    def __init__(self) -> None:
        self._cosines: list[Tensor] = []
        self._sketched, self._exact, self._difference = _Moment(), _Moment(), _Moment()

    def add(self, sketched: Tensor, exact: Tensor) -> None:
        """Take in one pair."""
        sketched, exact = sketched.double(), exact.double()
        self._cosines.append(cosine(sketched, exact))
        self._sketched.add(sketched)
        self._exact.add(exact)
        self._difference.add(sketched - exact)

    def sample(self) -> GradientSample:
        """Return the moments of the pairs, two at least."""
        return GradientSample(
            cosines=torch.stack(self._cosines),
            sketched=self._sketched.mean,
            exact=self._exact.mean,
            sketched_variance=self._sketched.variance(),
            exact_variance=self._exact.variance(),
            difference_variance=self._difference.variance(),
        )


class _Moment:
    """The mean of vectors and their total variance, one vector at a time. [Welford 1962]"""

    def __init__(self) -> None:
        self.count = 0
        self.mean = torch.zeros(())
        self._scatter = torch.zeros(())

    def add(self, vector: Tensor) -> None:
        if not self.count:
            self.mean = torch.zeros_like(vector)
            self._scatter = vector.new_zeros(())
        self.count += 1
        step = vector - self.mean
        self.mean += step / self.count
        self._scatter += step @ (vector - self.mean)

    def variance(self) -> float:
        return self._scatter.item() / (self.count - 1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of two tensors of one shape, a scalar; 0 where one of them is zero."""
    norms = a.norm() * b.norm()
    return torch.where(norms == 0, norms, (a * b).sum() / norms)
