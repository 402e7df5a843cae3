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
class Trace:
    """Outcome of monitored training: what a monitor said of each step, beside the truth.

    `estimates` maps names to (steps, layers), `truth` (steps, layers) holds the gradients' exact
    Frobenius norms, `losses` (steps,) the batches' losses; steps are those observed, and `at`
    (steps,) says which they were. Training has `steps_per_epoch`; `fault` is what was done to it
    and `onset` the step at which that began, both None in healthy training. `held` is the bytes
    that the monitor holds at the end.
    """

    layers: tuple[str, ...]
    at: Tensor
    estimates: Mapping[str, Tensor]
    truth: Tensor
    losses: Tensor
    steps_per_epoch: int
    fault: str | None
    onset: int | None
    held: int


@dataclass(frozen=True)
class GradientSample:
    """Outcome: sketched gradients ĝ and exact ones g of the same batches at the same weights.

    All weights of the layers touched as one vector (P,): `cosines` (batches,) of ĝ and g; the means
    `sketched` and `exact` (P,); the total variances (sums over entries of the unbiased variances
    over batches) of ĝ, of g, and of ĝ − g.
    """

    cosines: Tensor
    sketched: Tensor
    exact: Tensor
    sketched_variance: float
    exact_variance: float
    difference_variance: float


@dataclass(frozen=True)
class Reconstructed:
    """Outcome: what an activation sketch gave back of one matrix A, over independent draws.

    `errors` (draws,) are ‖A − Â‖ in Frobenius norm, `norm` is ‖A‖, `tail` is τ_{r+1}, the error of
    the best approximation of rank r: (Σ_{i>r} σᵢ²)^½.
    """

    errors: Tensor
    norm: float
    tail: float


@dataclass(frozen=True)
class Spectra:
    """Outcome: the singular values of several matrices, each (n,) and in descending order."""

    values: tuple[Tensor, ...]


@dataclass(frozen=True)
class Escaped:
    """Outcome of an optimizer that sketches second moments: what escaped each of its sketches.

    `shares` (sketches,) are ρ / (ρ + trace of what is held), from 0 to 1; none where an optimizer
    keeps no sketch, or tells nothing of it.
    """

    shares: Tensor


@dataclass(frozen=True)
class Event:
    """An outcome that no score need judge: something that happened, in the record as it is."""

    what: str
    details: Mapping[str, str | int | float | bool | None]
