"""Scores of a monitor: does it follow the gradient's norm, what does it hold, what does it flag."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sketchbench import Field, Missing, Score, Trace
from sketchbench.builtin.metrics.flags import Rules, flags

ESTIMATE = "Which estimate; null is the monitor's first, its own of the gradient's norm."
SHOWS_AS = {"vanishing": "vanishing", "exploding": "exploding", "spike": "exploding"}


class _OfEstimate(Score):
    consumes = Trace
    direction: ClassVar[Literal["lower", "higher"]] = "higher"
    unit = "1"
    margin = 0.05
    estimate: str | None = Field(None, description=ESTIMATE)

    def chosen(self, trace: Trace) -> Tensor:
        """Return the estimate (steps, layers); raises `Missing` where the monitor has none."""
        name = next(iter(trace.estimates)) if self.estimate is None else self.estimate
        if name not in trace.estimates:
            raise Missing(f"the monitor has no '{name}': {', '.join(trace.estimates)}")
        return trace.estimates[name]


class RankCorrelation(_OfEstimate):
    """Spearman's correlation of an estimate with the exact norm over steps; median of layers."""

    name = "rank_correlation"

    def __call__(self, outcome: Trace) -> float:
        """Return the median over layers; steps without a finite value are left out."""
        return _correlation(self.chosen(outcome), outcome.truth, ranks)


class LogCorrelation(_OfEstimate):
    """Pearson's correlation of an estimate's logarithm with the exact norm's; median of layers."""

    name = "log_correlation"

    def __call__(self, outcome: Trace) -> float:
        """Return the median over layers; steps at which either is not positive are left out."""
        return _correlation(self.chosen(outcome).log(), outcome.truth.log(), lambda values: values)


class MonitorBytes(Score):
    """Bytes that a monitor holds between steps, history included, at the end of the run.

    What the run itself records of the estimates, 4 bytes a layer, step and estimate, comes on top
    for a monitor that doesn't hold it. `grad-norm-exact` holds nothing else.
    """

    name = "monitor_bytes"
    consumes = Trace
    unit = "bytes"
    direction = "lower"
    margin = 0.01
    relative = True

    def __call__(self, outcome: Trace) -> float:
        """Return what the watcher said."""
        return float(outcome.held)


class _Flagging(_OfEstimate):
    direction = "lower"
    below_median: float | None = Field(
        1e-6, ge=0, description="Vanishing: below this fraction of the layers' median."
    )
    below_loss: float | None = Field(
        0.1, ge=0, description="Vanishing: below this fraction of the loss; our choice."
    )
    above_median: float | None = Field(
        3.0, ge=1, description="Exploding: this many times the layer's running median; our choice."
    )
    above: float | None = Field(None, gt=0, description="Exploding: above this, in its own unit.")

    def raised(self, trace: Trace) -> dict[str, Tensor]:
        """Return the flags (steps, layers) of each kind."""
        rules = Rules(self.below_median, self.below_loss, self.above_median, self.above)
        return dict(flags(self.chosen(trace), trace.losses, rules))


class DetectionDelay(_Flagging):
    """Steps from the onset of a fault to the first alarm of its kind, at any layer.

    An alarm is a flag at a layer that wasn't flagged at the step observed before: one that stands
    counts once, when it is raised, and detects nothing if that was before the onset. A spike of the
    learning rate shows as exploding. A fault without an alarm counts as flagged at the step that
    would have been observed next. Missing in healthy training.
    """

    name = "detection_delay"
    unit = "steps"
    margin = 1.0

    def __call__(self, outcome: Trace) -> float:
        """Return the delay; see `sketchbench.builtin.metrics.flags` for the rules."""
        if outcome.fault is None or outcome.onset is None:
            raise Missing("nothing went wrong: the training is healthy")
        alarms = _alarms(self.raised(outcome)[SHOWS_AS[outcome.fault]]).any(dim=1)
        late = outcome.at[alarms & (outcome.at >= outcome.onset)]
        never = outcome.at[-1] + _stride(outcome.at)
        return float((late[0] if len(late) else never) - outcome.onset)


class FalseAlarms(_Flagging):
    """Alarms an epoch of healthy training: steps at which a layer is flagged that wasn't before.

    Flags of every kind. An alarm that stands counts once, and once more in each further epoch that
    it stands into: one that stands throughout makes 1 an epoch. Steps before a fault's onset are
    healthy, too; missing where none is.
    """

    name = "false_alarms"
    unit = "per epoch"
    margin = 0.5

    def __call__(self, outcome: Trace) -> float:
        """Return the number of alarms divided by that of healthy epochs."""
        healthy = torch.ones_like(outcome.at, dtype=torch.bool)
        if outcome.onset is not None:
            healthy = outcome.at < outcome.onset
        if not healthy.any():
            raise Missing("no step is healthy: the fault is there from the first one on")
        kinds = torch.cat(list(self.raised(outcome).values()), dim=1)[healthy]
        alarms = _alarms(kinds, outcome.at[healthy] // outcome.steps_per_epoch).any(dim=1)
        epochs = int(healthy.sum()) * _stride(outcome.at) / outcome.steps_per_epoch
        return float(alarms.sum()) / epochs


def ranks(values: Tensor) -> Tensor:
    """Return the ranks (n,) of values (n,), 1 the smallest; ties have the mean of theirs."""
    _, places, counts = values.unique(return_inverse=True, return_counts=True)
    middle: Tensor = counts.cumsum(0) - (counts - 1) / 2
    return middle[places]


def _correlation(estimate: Tensor, truth: Tensor, of: Callable[[Tensor], Tensor]) -> float:
    """Return the median over layers of Pearson's correlation of `of` both (steps, layers)."""
    found = []
    for left, right in zip(estimate.T, truth.T, strict=True):
        both = left.isfinite() & right.isfinite()
        left, right = (of(side[both].double()) for side in (left, right))
        if len(left) < 3:
            continue
        left, right = left - left.mean(), right - right.mean()
        if left.any() and right.any():
            found.append(left @ right / (left.norm() * right.norm()))
    if not found:
        raise Missing("no layer has three steps at which the estimate varies and is finite")
    return torch.stack(found).quantile(0.5).item()


def _alarms(flagged: Tensor, epoch: Tensor | None = None) -> Tensor:
    """Return where flags (steps, columns) are raised; with epochs (steps,), in each one anew."""
    standing = flagged[:-1]
    if epoch is not None:
        standing = standing & (epoch[1:] == epoch[:-1])[:, None]
    alarms = flagged.clone()
    alarms[1:] &= ~standing
    return alarms


def _stride(at: Tensor) -> int:
    return int(at[1] - at[0]) if len(at) > 1 else 1
