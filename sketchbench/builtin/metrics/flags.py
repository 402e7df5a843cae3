"""Flags: which layers of a monitored training vanish, explode or stagnate, by any estimate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

MEMORY = 50  # steps of a running median; our choice
FEWEST = 5  # finite values before a running median is compared with; our choice


@dataclass(frozen=True)
class Rules:
    """When a layer's estimate of its gradient norm is flagged.

    `vanishing`: below `below_median` of the layers' median, which a network that vanishes as a
    whole never is, or below `below_loss` of the loss.
    `exploding`: not finite, above `above_median` times the median of the layer's last MEMORY
    steps, or above `above`, in the estimate's own unit: what is there from the first step on shows
    only so. `stagnating`: an average over `patience` steps, of its logarithm, that moves by less
    than `flat`, while the loss's doesn't fall by `fall` and is above `loss`. None switches a
    part off.
    """

    below_median: float | None = 1e-6
    below_loss: float | None = 0.1
    above_median: float | None = 3.0
    above: float | None = None
    patience: int = 50
    flat: float = 0.05
    fall: float = 0.05
    loss: float = 0.1


def flags(estimate: Tensor, losses: Tensor, rules: Rules) -> Mapping[str, Tensor]:
    """Return `vanishing`, `exploding` and `stagnating` as (steps, layers) of booleans.

    From an estimate (steps, layers) and the losses (steps,), a step's from it and earlier ones.
    NaN, an estimate that there isn't yet, is not flagged unless the loss isn't finite.
    """
    return {
        "vanishing": _vanishing(estimate, losses, rules),
        "exploding": _exploding(estimate, losses, rules),
        "stagnating": _stagnating(estimate, losses, rules),
    }


def _vanishing(estimate: Tensor, losses: Tensor, rules: Rules) -> Tensor:
    found = torch.zeros_like(estimate, dtype=torch.bool)
    if rules.below_median is not None:
        median = estimate.nanmedian(dim=1, keepdim=True).values
        found |= estimate < rules.below_median * median
    if rules.below_loss is not None:
        found |= estimate < rules.below_loss * losses[:, None]
    return found


def _exploding(estimate: Tensor, losses: Tensor, rules: Rules) -> Tensor:
    found = estimate.isinf() | ~losses.isfinite()[:, None]
    if rules.above_median is not None:
        found |= estimate > rules.above_median * _running_median(estimate)
    if rules.above is not None:
        found |= estimate > rules.above
    return found


def _running_median(estimate: Tensor) -> Tensor:
    """Return the median (steps, layers) of the finite values in MEMORY earlier steps.

    NaN of fewer than FEWEST such values.
    """
    finite = estimate.isfinite()
    values = estimate.where(finite, math.nan)
    medians = torch.full_like(estimate, math.nan)
    for step in range(FEWEST, len(estimate)):
        window = slice(max(0, step - MEMORY), step)
        enough = finite[window].sum(dim=0) >= FEWEST
        medians[step] = values[window].nanmedian(dim=0).values.where(enough, math.nan)
    return medians


def _stagnating(estimate: Tensor, losses: Tensor, rules: Rules) -> Tensor:
    found = torch.zeros_like(estimate, dtype=torch.bool)
    steps = rules.patience
    if len(estimate) < 2 * steps:
        return found
    level = _moving_mean(estimate.log(), steps)
    loss = _moving_mean(losses[:, None].log(), steps)
    still = (level[steps:] - level[:-steps]).abs() < rules.flat
    stuck = (loss[:-steps] - loss[steps:] < rules.fall) & (loss[steps:] > math.log(rules.loss))
    found[2 * steps - 1 :] = still & stuck
    return found


def _moving_mean(values: Tensor, steps: int) -> Tensor:
    """Return the means of `steps` consecutive rows (n − steps + 1, …)."""
    return values.unfold(0, steps, 1).mean(-1)
