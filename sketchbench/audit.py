"""Audit: what each module of a workload's model keeps for the backward pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from sketchbench.kinds import Workload
from sketchbench.measure import labelling
from sketchbench.measure.keeping import Keeping, Keepings
from sketchbench.metric import Probe
from sketchbench.protocols import Meter, Missing
from sketchbench.run import Enough, Run, Wanted

if TYPE_CHECKING:
    import torch

REGION = "step"


class Opened(Probe):
    """A probe that only has its meter opened; the reading is taken from the run."""

    name = "opened"
    stage = "audit"
    unit = "bytes"
    direction = "lower"
    margin = 0.0
    regions: ClassVar[tuple[str, ...]] = ("step", "build")

    def sample(self, reading: Any) -> float:
        """Return nothing of interest."""
        return 0.0

    def summarise(self, readings: Sequence[Any]) -> dict[str, float]:
        """Return nothing of interest."""
        return {"value": 0.0}


class _Kept(Opened):
    meter: ClassVar[type[Meter]] = Keeping


def audit(workload: Workload, seed: int, device: torch.device) -> Keepings:
    """Run a workload's first steps and return what the largest backward pass of a step keeps.

    Raises `Missing` where the workload never reaches a step, and what the workload raises.
    """
    run = Run(
        device,
        seed,
        [Wanted(_Kept(), REGION)],
        stage="audit",
        period=workload.full_period(),
        changing=any(part.changing for part in workload.parts()),
    )
    try:
        with labelling():
            workload.run(run)
    except Enough:
        """Whole periods enough have been seen."""
    found: list[Keepings] = run.readings(REGION, Keeping)
    if not found:
        raise Missing(f"workload '{workload.name}' never came to a region '{REGION}'")
    return max(found, key=lambda keepings: keepings.total)
