"""What recipes build and what they are handed: protocols, satisfied without inheriting anything."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    Loss = Callable[[Tensor, Tensor], Tensor]


# ---------------------------------------------------------------- what recipes build


class LinearSketch(Protocol):
    """A linear map S: Rᴺ → Rᴰ with E‖Sx‖² = ‖x‖²."""

    @property
    def shape(self) -> tuple[int, int]:
        """(D, N)."""

    def apply(self, x: Tensor) -> Tensor:
        """Map x (..., N) to Sx (..., D)."""

    def adjoint(self, y: Tensor) -> Tensor:
        """Map y (..., D) to Sᵀy (..., N)."""


class CovarianceEstimate(Protocol):
    """A running estimate of C = Σ aaᵀ over the rows a seen so far."""

    def update(self, rows: Tensor) -> None:
        """Absorb rows (m, d)."""

    def dense(self) -> Tensor:
        """Return the estimate (d, d); for tests and small d."""

    def power(self, x: Tensor, exponent: float, ridge: float) -> Tensor:
        """Return (C + ridge·I)^exponent x for x (d, n)."""


class SketchedModel(Protocol):
    """A model that keeps something cheaper than activations for its backward pass."""

    @property
    def model(self) -> nn.Module:
        """The module to train and to evaluate; its parameters are the original's, by identity."""

    def accumulate(self, inputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
        """Run forward and backward of one batch; return its mean loss, detached.

        Gradients are added to `.grad`, so the caller clears them before each step.
        """

    def end_epoch(self, loss: float) -> None:
        """Adapt to the epoch's mean training loss (rank schedules)."""


# ---------------------------------------------------------------- what measures, what is measured


class Missing(Exception):
    """A metric can't be had here, for the reason given: its value is missing, never 0."""


@dataclass
class Watched:
    """What a workload said memory belongs to; it changes as the run goes on."""

    model: nn.Module | None = None
    optimizer: torch.optim.Optimizer | None = None
    inputs: Sequence[Tensor] = ()


class Meter(Protocol):
    """An instrument that the run opens once a region, however many probes read it."""

    def __init__(self, device: torch.device, watched: Watched) -> None: ...

    def start(self) -> None:
        """Begin a reading."""

    def stop(self) -> Any:
        """End it and return what was read."""


class Measured(Protocol):
    """What a derived metric may read of a record; `where` defaults to `test`."""

    def value(self, metric: str, where: str | None = None) -> float | None:
        """Return the value of `metric`, or None where it wasn't measured."""

    def direction(self, metric: str, where: str | None = None) -> str | None:
        """Return `lower` or `higher`, whichever is better, or None where it wasn't measured."""

    def curve(self, metric: str, where: str | None = None) -> Sequence[tuple[float, float, float]]:
        """Return (at, value, seconds of measured work until then) for each delivery."""
