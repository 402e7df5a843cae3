"""Prediction: peak bytes of a workload without its data, its arithmetic or its device.

The workload runs on fake CPU tensors: shapes and lifetimes are real, values don't exist. What
depends on values can't be predicted, and says so: `.item()` of anything but a seed (Adafactor's
step count is such a value), `nonzero`, `torch.linalg.lstsq`, extensions that read a pointer.

It predicts the tensors of torch's CPU path, as many bytes as `LiveBytes` counts of a real run but
for these:

1. `mse_loss`, `smooth_l1_loss`, `binary_cross_entropy` and `soft_margin_loss` return a scalar whose
   storage is as large as their input on the CPU (torch 2.13); predicted are its 4 bytes.
2. On CUDA some kernels keep other tensors (attention); scratch memory is in neither.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from sketchbench.audit import Opened
from sketchbench.fakes import fake_tensors, without_values
from sketchbench.kinds import Split, Task, Workload
from sketchbench.measure import Footprint, LiveBytes, labelling, simulate
from sketchbench.measure.ledger import events
from sketchbench.protocols import Meter, Missing, Watched
from sketchbench.recipe import Recipe
from sketchbench.run import Enough, Run, Wanted

_WARMUP = 1  # steps, until the optimizer has its state


class _Fake(LiveBytes):
    def __init__(self, device: torch.device, watched: Watched) -> None:
        super().__init__(torch.device("cpu"), watched)


class _Footprints(Opened):
    meter: ClassVar[type[Meter]] = _Fake


@dataclass(frozen=True)
class Prediction:
    """Predicted bytes of one region: its footprint, and a simulated CUDA allocator's figures."""

    footprint: Footprint
    simulated_allocated: int
    simulated_reserved: int


def predict(workload: Workload, seed: int = 0) -> Mapping[str, Prediction]:
    """Return predicted bytes by region (`step`, `build`), of the occurrence that needs most.

    Raises `Missing` where memory depends on the data, and what the workload raises.
    """
    for part in workload.parts():
        if part.changing:
            raise Missing(f"what {part.kind} '{part.name}' keeps changes while it runs")
    regions = [region for region in workload.regions if region in Opened.regions]
    period = workload.full_period()
    run = Run(
        torch.device("cpu"),
        seed,
        [Wanted(_Footprints(), region) for region in regions],
        stage="audit",
        period=period,
        warmup=_WARMUP,
    )
    why = ""
    try:
        with fake_tensors() as mode, labelling():
            _without_data(workload, mode).run(run)
    except Enough:
        """Whole periods enough have been seen."""
    except Exception as error:
        reason = without_values(error)
        if reason is None:
            raise
        why = reason
    _refuse_fused(run.watched.model)
    found = {region: run.readings(region, _Fake) for region in regions}
    if not all(found.values()):
        raise Missing(why or f"workload '{workload.name}' never came to a region {regions}")
    seen = min(len(run.region(region).readings) for region in regions)
    needed = math.ceil(_WARMUP / period) * period + period
    if why and seen < needed:
        raise Missing(f"after {seen} of the {needed} steps that tell its memory: {why}")
    return {region: _prediction(readings) for region, readings in found.items()}


def _refuse_fused(model: nn.Module | None) -> None:
    """Raise `Missing` for modules whose kernels keep what fake tensors don't show."""
    for name, module in model.named_modules() if model is not None else ():
        if isinstance(module, nn.RNNBase | nn.EmbeddingBag):
            raise Missing(f"'{name}' ({type(module).__name__}) runs in a fused kernel of its own")


def told(predictions: Mapping[str, Prediction]) -> dict[str, Any]:
    """Return predictions as plain JSON."""
    return {
        region: {
            "peak": found.footprint.peak,
            "at_peak": found.footprint.at_peak,
            "during": found.footprint.during,
            "kept": found.footprint.kept,
            "state": found.footprint.state,
            "simulated_allocated": found.simulated_allocated,
            "simulated_reserved": found.simulated_reserved,
        }
        for region, found in predictions.items()
    }


def _prediction(readings: list[Footprint]) -> Prediction:
    most = max(readings, key=lambda footprint: footprint.peak)
    simulated = simulate(events(most))
    return Prediction(most, simulated.allocated_peak, simulated.reserved_peak)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__


# ---------------------------------------------------------------- data that isn't read


class _Blank:
    """A task whose splits have the right shapes and types, and no values."""

    def __init__(self, task: Task, mode: FakeTensorMode) -> None:
        self._task, self._mode = task, mode

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def load(self, split: Literal["train", "test"]) -> Split:
        """Return the blank split as fake tensors."""
        if type(self._task).blank is not Task.blank:
            return self._task.blank(split)
        with _disable_current_modes():
            found = self._task.blank(split)
        return Split(*(self._mode.from_tensor(each) for each in (found.inputs, found.targets)))


def _without_data(recipe: Any, mode: FakeTensorMode) -> Any:
    """Return a copy of a recipe whose tasks, wherever they are in it, are blank."""
    if isinstance(recipe, Task):
        return _Blank(recipe, mode)
    changes = {}
    for name in type(recipe).model_fields:
        value = getattr(recipe, name)
        if isinstance(value, Recipe):
            changes[name] = _without_data(value, mode)
    return recipe.model_copy(update=changes)
