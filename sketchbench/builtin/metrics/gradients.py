"""Scores of sketched gradients against exact ones, and of what makes them hard to sketch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sketchbench import Approximation, GradientSample, Missing, Score, Spectra


class GradientCosine(Score):
    """Mean over batches of the cosine of the sketched gradient and the exact one.

    A high one may be had without looking at the batch: the mean activation alone has 0.6 to 0.8.
    Random ones of high variance have a low one and train well: read it with bias and variance.
    """

    name = "gradient_cosine"
    consumes = GradientSample
    unit = "1"
    direction = "higher"
    margin = 0.02

    def __call__(self, outcome: GradientSample) -> float:
        """Return the mean cosine; a batch of which one gradient is zero counts as 0."""
        return outcome.cosines.double().mean().item()


class GradientBias(Score):
    """Squared bias of the mean gradient, relative: (‖mean(ĝ − g)‖² − noise) / ‖mean g‖².

    `noise` is what the sampled mean would have without any bias: the variance of ĝ − g, divided by
    the batches. It isn't clipped: an unbiased sketch scatters around 0, on both sides of it. With
    an EMA the errors of neighbouring batches are correlated and `noise` is too small; then take
    many more batches than 1/(1 − β).
    """

    name = "gradient_bias"
    consumes = GradientSample
    unit = "1"
    direction = "lower"
    margin = 0.02

    def __call__(self, outcome: GradientSample) -> float:
        """Return the relative squared bias; 0 where nothing differs."""
        noise = outcome.difference_variance / len(outcome.cosines)
        return _relative(_square(outcome.sketched - outcome.exact) - noise, outcome)


class GradientVariance(Score):
    """Total variance of the sketched gradient over batches and draws, relative to ‖mean g‖².

    The exact gradient has one too: that of drawing a batch. The difference is the sketch's.
    """

    name = "gradient_variance"
    consumes = GradientSample
    unit = "1"
    direction = "lower"
    margin = 0.05
    relative = True

    def __call__(self, outcome: GradientSample) -> float:
        """Return the relative variance; 0 where there is none."""
        return _relative(outcome.sketched_variance, outcome)


class MeanGradientError(Score):
    """Relative error of the mean gradient: ‖mean ĝ − mean g‖ / ‖mean g‖, noise included."""

    name = "mean_gradient_error"
    consumes = GradientSample
    unit = "fraction"
    direction = "lower"
    margin = 0.05
    relative = True

    def __call__(self, outcome: GradientSample) -> float:
        """Return the relative error; 0 where nothing differs."""
        return math.sqrt(_relative(_square(outcome.sketched - outcome.exact), outcome))


class Cosine(Score):
    """Cosine of the approximation and the exact quantity, both as one vector."""

    name = "cosine"
    consumes = Approximation
    unit = "1"
    direction = "higher"
    margin = 0.02

    def __call__(self, outcome: Approximation) -> float:
        """Return the cosine, in double precision; 0 where one of them is zero."""
        exact, approx = outcome.exact.double(), outcome.approx.double()
        norms = exact.norm() * approx.norm()
        return ((exact * approx).sum() / norms).item() if norms != 0 else 0.0


class StableRank(Score):
    """Mean over matrices of ‖A‖_F² / ‖A‖₂²: how many columns a sketch of A needs for its energy."""

    name = "stable_rank"
    consumes = Spectra
    unit = "1"
    direction = "lower"
    margin = 0.05
    relative = True

    def __call__(self, outcome: Spectra) -> float:
        """Return the mean; a zero matrix counts as 0."""
        ranks = [_square(v) / float(v[0]) ** 2 if v[0] != 0 else 0.0 for v in outcome.values]
        return sum(ranks) / len(ranks)


class EffectiveRank(Score):
    """Mean over matrices of exp(entropy of σᵢ / Σσ), from 1 to the rank. [Roy & Vetterli 2007]"""

    name = "effective_rank"
    consumes = Spectra
    unit = "1"
    direction = "lower"
    margin = 0.05
    relative = True

    def __call__(self, outcome: Spectra) -> float:
        """Return the mean; a zero matrix counts as 0."""
        ranks = [_perplexity(values.double()) for values in outcome.values]
        return sum(ranks) / len(ranks)


def _square(vector: Tensor) -> float:
    return vector.double().square().sum().item()


def _relative(value: float, outcome: GradientSample) -> float:
    """Return value / ‖mean g‖²; 0 for 0 / 0. Raises `Missing` where there is no such number."""
    square = _square(outcome.exact)
    if not (math.isfinite(value) and math.isfinite(square)):
        raise Missing("the gradients aren't all finite")
    if value == 0:
        return 0.0
    if square == 0 or not math.isfinite(value / square):
        raise Missing(f"relative to the mean exact gradient, whose squared norm is {square:g}")
    return value / square


def _perplexity(values: Tensor) -> float:
    if not values.any():
        return 0.0
    shares = values / values.sum()
    return math.exp(torch.special.entr(shares).sum().item())
