"""Probes of arithmetic: how many floating-point operations a region takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sketchbench import Missing, Probe
from sketchbench.measure import FlopCount, Flops


class _RegionFlops(Probe):
    """FLOPs of a region: the mean of the counted occurrences, in parts by operation.

    The mean, so that work that comes every few steps is spread over them.
    """

    meter = Flops
    stage = "audit"
    unit = "FLOP"
    direction = "lower"
    margin = 0.01
    relative = True
    breakdown = True

    def sample(self, reading: FlopCount) -> float:
        """Return the FLOPs of one occurrence."""
        return float(reading.total)

    def summarise(self, readings: Sequence[FlopCount]) -> Mapping[str, float]:
        """Return the mean as `value`, and of each operation; it is missing where one has none."""
        missing = sorted({reason for reading in readings for reason in reading.missing})
        if missing:
            raise Missing("; ".join(missing))
        total: dict[str, int] = {"value": 0}
        for reading in readings:
            total["value"] += reading.total
            for name, flops in reading.by_op.items():
                total[name] = total.get(name, 0) + flops
        return {name: flops / len(readings) for name, flops in total.items()}


class StepFlops(_RegionFlops):
    """FLOPs of one step: forward, backward and update, or one application of a sketch.

    Products, factorizations, transforms and scattered sums; see `sketchbench.measure.flops`.
    """

    name = "step_flops"
    regions = ("step",)


class BuildFlops(_RegionFlops):
    """FLOPs to draw and set up a sketch; see `sketchbench.measure.flops`."""

    name = "build_flops"
    regions = ("build",)
