"""Probes of time: how long one occurrence of a region takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sketchbench import Probe
from sketchbench.measure import Clock, Elapsed


class _RegionTime(Probe):
    """Seconds of a region: the total of the counted occurrences divided by their number.

    On CUDA they are the device's, between events at the region's edges; on the CPU wall seconds.
    The mean, because a median hides work that comes every few steps; median, 95th percentile
    and mean CPU seconds of the host (of all threads) stand beside it, and on CUDA the mean wall
    seconds.
    """

    meter = Clock
    stage = "result"
    unit = "s"
    direction = "lower"
    margin = 0.05
    relative = True

    def sample(self, reading: Elapsed) -> float:
        """Return the seconds of one occurrence."""
        return reading.wall if reading.device is None else reading.device

    def summarise(self, readings: Sequence[Elapsed]) -> Mapping[str, float]:
        """Return the mean as `value`, with `median`, `p95`, `cpu` and, on CUDA, `wall`."""
        seconds = sorted(self.sample(reading) for reading in readings)
        summary = {
            "value": sum(seconds) / len(seconds),
            "median": _quantile(seconds, 0.5),
            "p95": _quantile(seconds, 0.95),
            "cpu": sum(reading.cpu for reading in readings) / len(readings),
        }
        if readings[0].device is not None:
            summary["wall"] = sum(reading.wall for reading in readings) / len(readings)
        return summary


class StepTime(_RegionTime):
    """Seconds of one step: forward, backward and update, or one application of a sketch."""

    name = "step_time"
    regions = ("step",)


class ApplyTime(_RegionTime):
    """Seconds to apply a power of a sketched covariance, once."""

    name = "apply_time"
    regions = ("apply",)


class BuildTime(_RegionTime):
    """Seconds to draw and set up a sketch."""

    name = "build_time"
    regions = ("build",)


class AdjointTime(_RegionTime):
    """Seconds of one product Sᵀy with the adjoint of a sketch."""

    name = "adjoint_time"
    regions = ("adjoint",)


class CopyTime(_RegionTime):
    """Seconds to copy a sketch's vectors, into memory that is there."""

    name = "copy_time"
    regions = ("copy",)


def _quantile(ordered: Sequence[float], level: float) -> float:
    """Return a quantile of sorted values, linear between neighbours [Hyndman Fan 1996, type 7]."""
    position = level * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])
