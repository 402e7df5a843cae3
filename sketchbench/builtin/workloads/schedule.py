"""Learning-rate schedules, as factors of the initial rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

Schedule = Literal["constant", "step", "cosine", "spike"]


def factor(
    schedule: Schedule,
    step: int,
    total: int,
    *,
    warmup: int = 0,
    drops: Sequence[int] = (),
    decay: float = 0.1,
    spike: range = range(0),
    height: float = 1.0,
) -> float:
    """Return the factor of the learning rate at `step` of 0..total-1.

    The first `warmup` steps rise linearly, (step + 1) / warmup. Then: `constant` stays at 1,
    `step` multiplies by `decay` at each step of `drops`, `cosine` falls from 1 to almost 0 over
    the steps that remain [Loshchilov Hutter 2017, eq. 5, without restarts], `spike` multiplies by
    `height` during the steps of `spike`. From `total` on, `cosine` stays at its last factor.
    """
    if schedule == "cosine":
        step = min(step, total - 1)
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "step":
        return decay ** sum(step >= drop for drop in drops)
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
    if schedule == "spike" and step in spike:
        return height
    return 1.0
