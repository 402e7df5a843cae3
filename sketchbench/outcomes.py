"""Outcomes: the typed results that a workload delivers and that scores judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Predictions:
    """Outcome of a trained model: outputs (n, c), targets (n,), and the task's mean loss."""

    outputs: Tensor
    targets: Tensor
    loss: float


@dataclass(frozen=True)
class Approximation:
    """Outcome of a sketch: the exact quantity and the sketched one, of equal shapes."""

    exact: Tensor
    approx: Tensor


@dataclass(frozen=True)
class Event:
    """An outcome that no score need judge: something that happened, in the record as it is."""

    what: str
    details: Mapping[str, str | int | float | bool | None]
