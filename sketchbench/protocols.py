"""What recipes build and what they are handed: protocols, satisfied without inheriting anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from sketchbench.outcomes import Event

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


class StreamedSketch(LinearSketch, Protocol):
    """A linear sketch that sees a vector piece by piece, in whatever pieces it comes."""

    def accumulate(self, product: Tensor, x: Tensor, start: int) -> None:
        """Add to `product` (..., D) the image of entries `start` … of a vector: x (..., n)."""


@dataclass(frozen=True)
class Guarantee:
    """What a gradient sketch promises of ‖Sx‖² for every unit vector x, but for what breaks it.

    `kappa` is the largest D·Var‖Sx‖²/2, 1 for a dense Gaussian matrix; D / kappa is then the
    effective dimension. `breaks` names inputs of `sketchbench.linalg.adversarial` on which it fails
    whatever D is. `unbiased` says that E‖Sx‖² = ‖x‖².
    """

    kappa: float
    breaks: tuple[str, ...] = ()
    unbiased: bool = True

    @property
    def valid(self) -> bool:
        """Whether it is a sketch at all: unbiased, and nothing breaks it."""
        return self.unbiased and not self.breaks


class CovarianceEstimate(Protocol):
    """A running estimate of C = Σ aaᵀ over the rows a seen so far."""

    @property
    def tail(self) -> Tensor:
        """What of `dense()` is a multiple of I, for the mass that was let go: a scalar, 0 or more.

        `dense() − tail·I` is what the sketch holds.
        """

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

    def end_epoch(self, loss: float) -> Sequence[Event]:
        """Adapt to the epoch's mean training loss (rank schedules); return what changed and why."""


class Watcher(Protocol):
    """What watches the layers of a model in exact training, and estimates from sketches.

    It hooks the model when it is built and changes nothing of what is computed.
    """

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers watched, as in `named_modules`."""

    def observe(self, on: bool) -> None:
        """Watch the steps from now on, or rest: a watcher that rests costs nothing."""

    def estimates(self) -> Mapping[str, Tensor]:
        """Return each estimate (layers,) of the step whose backward pass has just ended.

        On the model's device; NaN where an estimate has no value yet. The first is the watcher's
        own of the gradient's Frobenius norm. Called at most once a step, before the optimizer's.
        """

    def held(self) -> int:
        """Return the bytes that it holds between steps: history included, each storage once."""

    def close(self) -> None:
        """Take the hooks off the model."""


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

    @property
    def config(self) -> Mapping[str, Any]:
        """The configuration in JSON: `workload` with its slots, `seed`, `device`."""

    def value(self, metric: str, where: str | None = None) -> float | None:
        """Return the value of `metric`, or None where it wasn't measured."""

    def direction(self, metric: str, where: str | None = None) -> str | None:
        """Return `lower` or `higher`, whichever is better, or None where it wasn't measured."""

    def curve(self, metric: str, where: str | None = None) -> Sequence[tuple[float, float, float]]:
        """Return (at, value, seconds of measured work until then) for each delivery."""
