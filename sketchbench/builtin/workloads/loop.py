"""What workloads that train have in common: the data, the batches, the learning rate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal, Self

import torch
from pydantic import model_validator

from sketchbench import Field, Model, Optimizer, Predictions, Task, Workload
from sketchbench.builtin.workloads.precision import FP32
from sketchbench.builtin.workloads.schedule import Schedule, factor

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from sketchbench import Split

EVALUATION_BATCH = 512  # predictions: an image is one, a window of text as many as tokens


class Training(Workload):
    """Batches of a task, and the rate at which a model learns from them; subclasses `run`."""

    task: Task = Field(description="What is learnt.")
    model: Model = Field(description="What learns it.")
    optimizer: Optimizer = Field(description="How.")
    epochs: int = Field(1, ge=1, description="Passes over the training split.")
    batch_size: int = Field(128, ge=1, description="Examples a step.")
    batching: Literal["shuffled", "fixed", "full"] = Field(
        "shuffled",
        description="Batches: drawn anew each epoch; drawn once; or one of the whole split.",
    )
    lr_factor: float = Field(
        1.0, ge=0, description="Factor of every learning rate of the optimizer: an axis to tune."
    )
    schedule: Schedule = Field(
        "constant", description="How the learning rate changes after the warm-up."
    )
    warmup_epochs: float = Field(
        0.0, ge=0, description="Epochs over which the learning rate rises linearly."
    )
    decay_epochs: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="Epochs after which schedule `step` lowers the learning rate."
    )
    decay_factor: float = Field(
        0.1, gt=0, le=1, description="Factor by which schedule `step` lowers it."
    )
    spike_epoch: int | None = Field(
        None, ge=1, description="Epochs after which schedule `spike` raises it, for one epoch."
    )
    spike_factor: float = Field(10.0, gt=0, description="Factor by which schedule `spike` does.")

    @model_validator(mode="after")
    def _schedule_is_whole(self) -> Self:
        if (self.schedule == "step") != bool(self.decay_epochs):
            raise ValueError(
                "schedule 'step' and 'decay_epochs' go together; got schedule "
                f"'{self.schedule}' with decay_epochs {list(self.decay_epochs)}"
            )
        if list(self.decay_epochs) != sorted(set(self.decay_epochs)):
            raise ValueError(f"decay_epochs {list(self.decay_epochs)} don't increase")
        if self.decay_epochs and self.decay_epochs[-1] >= self.epochs:
            raise ValueError(
                f"decay_epochs {list(self.decay_epochs)} must all be below epochs {self.epochs}: "
                "after the last epoch there is nothing to lower"
            )
        if (self.schedule == "spike") != (self.spike_epoch is not None):
            raise ValueError(
                "schedule 'spike' and 'spike_epoch' go together; got schedule "
                f"'{self.schedule}' with spike_epoch {self.spike_epoch}"
            )
        if self.spike_epoch is not None and self.spike_epoch >= self.epochs:
            raise ValueError(
                f"spike_epoch {self.spike_epoch} must be below epochs {self.epochs}: "
                "after the last epoch there is nothing to raise"
            )
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs:g} is more than epochs {self.epochs}"
            )
        return self

    def size(self, count: int) -> int:
        """Return the number of examples a step, of a split of `count`."""
        return count if self.batching == "full" else min(self.batch_size, count)

    def batches(self, targets: Tensor, rng: Generator) -> list[Tensor]:
        """Return the positions (size,) of each batch of one epoch; a short last one is dropped.

        `targets` are the split's, on the CPU, and so are the positions. Call it once, and again at
        each later epoch if the batching is `shuffled`.
        """
        if self.batching == "full":
            return [torch.arange(len(targets))]
        size = self.size(len(targets))
        order = self.task.order(targets, rng)
        return [batch for batch in torch.split(order, size) if len(batch) == size]

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of the learning rate at `step`, with `steps` an epoch."""
        first = 0 if self.spike_epoch is None else self.spike_epoch * steps
        return self.lr_factor * factor(
            self.schedule,
            step,
            self.epochs * steps,
            warmup=round(self.warmup_epochs * steps),
            drops=[epoch * steps for epoch in self.decay_epochs],
            decay=self.decay_factor,
            spike=range(first, first + steps),
            height=self.spike_factor,
        )

    def predict(self, model: nn.Module, split: Split, arithmetic: FP32) -> Predictions:
        """Evaluate `model` over a split, leaving its state as it was.

        A window of text is as many predictions as it has tokens, each with an output (V,).
        """
        targets = split.targets
        rows = max(1, EVALUATION_BATCH // targets[0].numel())
        with evaluating(model):
            batches = map(arithmetic.inputs, torch.split(split.inputs, rows))
            outputs = torch.cat([arithmetic.outputs(model(batch)) for batch in batches])
            loss = self.task.loss(outputs, targets).item()
        if outputs.shape[:-1] == targets.shape:
            outputs, targets = outputs.flatten(0, -2), targets.flatten()
        return Predictions(outputs, targets, loss)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, without gradients; each gets its own mode back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
