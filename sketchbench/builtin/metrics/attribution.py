"""Scores of attribution: do sketched gradients rank training examples as exact ones do?"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor

from sketchbench import Approximation, Field, Missing, Score
from sketchbench.builtin.metrics.monitoring import ranks
from sketchbench.builtin.workloads.attribution import LayerPairs
from sketchbench.builtin.workloads.datamodel import Datamodel


class _Correlation(Score):
    """A correlation of approximate and exact numbers; the mean over independent draws.

    The first axis of both is that of draws.
    """

    consumes = Approximation
    unit = "1"
    direction = "higher"
    margin = 0.01

    def __call__(self, outcome: Approximation) -> float:
        """Return the mean over draws, in double precision."""
        draws = zip(outcome.exact.flatten(1), outcome.approx.flatten(1), strict=True)
        return _mean(self._of(exact, approx) for exact, approx in draws)

    @abstractmethod
    def _of(self, exact: Tensor, approx: Tensor) -> float:
        """Return the correlation of one draw (n,)."""


class Pearson(_Correlation):
    """Pearson's correlation of approximate and exact numbers; the mean over independent draws.

    The first axis of both is that of draws.
    """

    name = "pearson"

    def _of(self, exact: Tensor, approx: Tensor) -> float:
        return correlation(exact, approx)


class Spearman(_Correlation):
    """Spearman's correlation of approximate and exact numbers; the mean over draws.

    The first axis of both is that of draws; ties have the mean of their ranks.
    """

    name = "spearman"

    def _of(self, exact: Tensor, approx: Tensor) -> float:
        return correlation(_ranks(exact), _ranks(approx))


class TopKOverlap(Score):
    """Share of the k largest exact entries of a row that are among the k largest approximate ones.

    Rows are test examples, entries training examples: whom a test example is attributed to. The
    mean over rows and draws; k of n entries chosen at random have k/n.
    """

    name = "top_k_overlap"
    consumes = Approximation
    unit = "fraction"
    direction = "higher"
    margin = 0.02

    k: int = Field(10, ge=1, description="Entries of a row.")

    def __call__(self, outcome: Approximation) -> float:
        """Return the mean share; raise `Missing` where a row has no more than k entries."""
        if outcome.exact.shape[-1] <= self.k:
            raise Missing(f"a row has {outcome.exact.shape[-1]} entries, all among the {self.k}")
        exact, approx = (_top(side, self.k) for side in (outcome.exact, outcome.approx))
        return (exact & approx).sum(-1).double().mean().item() / self.k


class LayerPearson(Score):
    """Pearson's correlation of inner products within one layer, or some, with the whole ones.

    What selecting layers is worth before anything is sketched.
    """

    name = "layer_pearson"
    consumes = LayerPairs
    unit = "1"
    direction = "higher"
    margin = 0.01

    over: Literal["best", "median", "worst", "last"] = Field(
        "best", description="Of the layers, each alone: the best one, …, or the model's last."
    )
    layers: str | None = Field(
        None, description="A glob: all layers of such a name together, in place of `over`."
    )

    @model_validator(mode="after")
    def _one_choice(self) -> LayerPearson:
        if self.layers is not None and self.over != "best":
            raise ValueError(f"layer_pearson: over '{self.over}' and layers exclude each other")
        return self

    def __call__(self, outcome: LayerPairs) -> float:
        """Return the correlation; raise `Missing` where no layer has such a name."""
        if self.layers is not None:
            pattern = self.layers
            chosen = [own for name, own in outcome.within.items() if fnmatchcase(name, pattern)]
            if not chosen:
                known = ", ".join(outcome.within)
                raise Missing(f"no layer matches '{pattern}'; the model has {known}")
            return correlation(outcome.exact, torch.stack(chosen).sum(0))
        layers = list(outcome.within.values())
        if self.over == "last":
            return correlation(outcome.exact, layers[-1])
        found = [correlation(outcome.exact, own) for own in layers if own.any()]
        if not found:
            raise Missing("every gradient is zero")
        quantile = {"best": 1.0, "median": 0.5, "worst": 0.0}[self.over]
        return torch.tensor(found, dtype=torch.float64).quantile(quantile).item()


class LinearDatamodelingScore(Score):
    """Rank correlation over subsets of a test example's loss and the scores of those trained on.

    The sum of a subset's scores should foretell how much it lowers the loss; Spearman's, the mean
    over test examples and draws. [Ilyas et al. 2022; Park et al. 2023, Definition 2.4]
    """

    name = "lds"
    consumes = Datamodel
    unit = "1"
    direction = "higher"
    margin = 0.02

    scores: Literal["dot", "whitened"] = Field("dot", description="Which scores.")

    def __call__(self, outcome: Datamodel) -> float:
        """Return the mean rank correlation; raise `Missing` of fewer than three subsets."""
        if len(outcome.members) < 3:
            raise Missing(f"{len(outcome.members)} subsets have no correlation worth the name")
        members = outcome.members.double()
        gains = -outcome.losses.double()
        found = []
        for draw in outcome.scores[self.scores].double():
            foretold = members @ draw.mT  # (subsets, tests)
            pairs = zip(foretold.T, gains.T, strict=True)
            found.append(_mean(correlation(_ranks(left), _ranks(right)) for left, right in pairs))
        return _mean(found)


def correlation(left: Tensor, right: Tensor) -> float:
    """Return Pearson's correlation of all entries of two tensors, in double precision.

    Raises `Missing` where one of them is constant or not finite.
    """
    left, right = left.double().flatten(), right.double().flatten()
    _finite(left), _finite(right)
    if (left == left[0]).all() or (right == right[0]).all():
        raise Missing("the numbers are all the same: there is no correlation")
    left, right = left - left.mean(), right - right.mean()
    cosine: float = (left @ right / (left.norm() * right.norm())).clamp(-1, 1).item()
    return cosine


def _ranks(values: Tensor) -> Tensor:
    """Return ranks; raise `Missing` where a number isn't finite: it would have one, too."""
    return ranks(_finite(values))


def _finite(values: Tensor) -> Tensor:
    if not values.isfinite().all():
        raise Missing("not all numbers are finite")
    return values


def _top(rows: Tensor, k: int) -> Tensor:
    """Return where the k largest entries of each row are."""
    rows = _finite(rows)
    chosen = torch.zeros_like(rows, dtype=torch.bool)
    return chosen.scatter_(-1, rows.topk(k, dim=-1).indices, True)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
