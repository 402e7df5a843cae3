"""Evidence against what is said of a mean, exact for any number of draws and any distribution.

A gambler who bets on every draw that the mean is larger than it is said to be has, where that is
false, a wealth whose mean never exceeds the 1 that she started with: she gets to 1/α with a
probability of α at most. [Ville 1939; Waudby-Smith & Ramdas 2024, §4] No variance is estimated, so
that a κ of heavy tails is judged as safely as any other.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEVEL = 1e-9  # probability of an alarm at a law that is kept: one in a million recipes in CI
BETS = torch.logspace(-3.5, -0.02, 30, dtype=torch.float64)  # shares of the wealth that are bet


def exceeds(values: Tensor, mean: float | Tensor, level: float = LEVEL) -> Tensor:
    """Whether the mean of nonnegative draws (n, k) is shown to be larger than `mean`: (k,)."""
    ratios = values.double() / mean
    return _wealth(torch.log1p(BETS[:, None, None] * (ratios - 1))) > -math.log(level)


def falls_short(values: Tensor, mean: float, second: float, level: float = LEVEL) -> Tensor:
    """Whether the mean of nonnegative draws (n, k) is shown to be smaller than `mean`: (k,).

    `second` bounds the mean of their squares. e⁻ᵘ ≤ 1 − u + u²/2 makes e^(−λx) / (1 − λ·mean +
    λ²·second/2) a fair bet for every λ ≥ 0.
    """
    bets = torch.logspace(-3.5, 1.5, 30, dtype=torch.float64)[:, None, None] / mean
    stakes = torch.log1p(-bets * mean + bets.square() * second / 2)
    return _wealth(-bets * values.double() - stakes) > -math.log(level)


def lower_bound(values: Tensor, level: float) -> float:
    """Return a bound that the mean of nonnegative draws (n,) exceeds with confidence 1 − level."""
    low, high = 0.0, float(values.double().mean())
    for _ in range(40):
        middle = (low + high) / 2
        if middle > 0 and bool(exceeds(values[:, None], middle, level)):
            low = middle
        else:
            high = middle
    return low


def _wealth(gains: Tensor) -> Tensor:
    """Return the largest logarithm of the wealth on the way, of gains (bets, n, k): (k,)."""
    mixed = torch.logsumexp(gains.cumsum(1), 0) - math.log(len(gains))
    return mixed.nan_to_num(nan=torch.inf).amax(0)  # what is no number is no evidence in favour
