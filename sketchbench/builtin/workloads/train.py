"""Training: the experiment that activation sketches and optimizers fill."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, Self

import torch
from pydantic import model_validator

from sketchbench import (
    ActivationSketch,
    Diverged,
    Event,
    Field,
    Model,
    Optimizer,
    Predictions,
    Run,
    Split,
    Task,
    Workload,
)
from sketchbench.autodiff import Plain, seeded
from sketchbench.builtin.workloads.precision import FP32, PRECISIONS, Precision
from sketchbench.builtin.workloads.schedule import factor

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

EVALUATION_BATCH = 512  # predictions: an image is one, a window of text as many as tokens


class Train(Workload):
    """Train a model, with or without an activation sketch; score it on held-out data.

    Regions: `step` is forward, backward and update of one batch, `adapt` what a sketch does at an
    epoch's end; gathering and augmenting a batch, and evaluation, are outside. A short last batch
    is dropped, unless it is the only one.
    """

    name = "train"
    regions = ("step", "adapt")
    outcomes = {"test": Predictions, "train": Predictions}

    task: Task = Field(description="What is learnt.")
    model: Model = Field(description="What learns it.")
    optimizer: Optimizer = Field(description="How.")
    activation: ActivationSketch | None = Field(
        None, description="What is kept for the backward pass; null keeps all of it."
    )
    epochs: int = Field(1, ge=1, description="Passes over the training split.")
    batch_size: int = Field(128, ge=1, description="Examples a step.")
    batching: Literal["shuffled", "fixed", "full"] = Field(
        "shuffled",
        description="Batches: drawn anew each epoch; drawn once; or one of the whole split.",
    )
    precision: Precision = Field(
        "fp32",
        description="Arithmetic: fp32; bf16 throughout; or bf16 in the forward, by autocast.",
    )
    schedule: Literal["constant", "step", "cosine"] = Field(
        "constant", description="How the learning rate falls after the warm-up."
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
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs:g} is more than epochs {self.epochs}"
            )
        return self

    def run(self, run: Run) -> None:
        """Train; deliver an event and the outcomes of both splits after each epoch."""
        train, test = (self.task.load(split).to(run.device) for split in ("train", "test"))
        count = len(train.inputs)
        size = count if self.batching == "full" else min(self.batch_size, count)
        with seeded(run.rng("weights")):
            model = self.model.build(self.task.shapes)
        arithmetic = PRECISIONS[self.precision]()
        arithmetic.place(model, run.device)
        sketched = (
            self.activation.build(model, size, run.rng("activation"))
            if self.activation
            else Plain(model)
        )
        model = sketched.model
        arithmetic.attach(model, run.device)
        loss = arithmetic.loss(self.task.loss)
        optimizer = self.optimizer.build(model.parameters())
        run.watch(model=model, optimizer=optimizer)
        rates = [group["lr"] for group in optimizer.param_groups]
        shuffle, augment = run.rng("shuffle"), run.rng("augment")
        batches = self._batches(count, size, shuffle)
        step, steps = 0, len(batches)

        with seeded(run.rng("noise")):  # what a model itself draws: dropout
            for epoch in range(1, self.epochs + 1):
                if epoch > 1 and self.batching == "shuffled":
                    batches = self._batches(count, size, shuffle)
                model.train()
                losses = []
                for batch in batches:
                    chosen = batch.to(run.device)
                    inputs = self.task.transform(train.inputs[chosen], augment)
                    inputs = arithmetic.inputs(inputs)
                    targets = train.targets[chosen]
                    run.watch(inputs=(inputs, targets))
                    scale = self._factor(step, steps)
                    for group, rate in zip(optimizer.param_groups, rates, strict=True):
                        group["lr"] = rate * scale
                    with run.region("step"):
                        optimizer.zero_grad(set_to_none=True)
                        losses.append(sketched.accumulate(inputs, targets, loss))
                        optimizer.step()
                    step += 1
                mean = torch.stack(losses).double().mean().item()
                if not math.isfinite(mean):
                    raise Diverged(f"training loss is {mean} at epoch {epoch}")
                details = {"train_loss": mean, "lr": float(optimizer.param_groups[0]["lr"])}
                run.deliver("epoch", Event("epoch", details), at=epoch)
                with run.region("adapt"):
                    sketched.end_epoch(mean)
                run.changed()
                predict = partial(self._predict, model, arithmetic)
                run.deliver("test", partial(predict, test), at=epoch)
                run.deliver("train", partial(predict, train), at=epoch)

    def _batches(self, count: int, size: int, rng: Generator) -> list[Tensor]:
        """Return the positions of each batch of one epoch, all of `size`."""
        if self.batching == "full":
            return [torch.arange(count)]
        return [
            batch
            for batch in torch.split(torch.randperm(count, generator=rng), size)
            if len(batch) == size
        ]

    def _factor(self, step: int, steps: int) -> float:
        """Return the factor of the learning rate at `step`, with `steps` an epoch."""
        return factor(
            self.schedule,
            step,
            self.epochs * steps,
            warmup=round(self.warmup_epochs * steps),
            drops=[epoch * steps for epoch in self.decay_epochs],
            decay=self.decay_factor,
        )

    def _predict(self, model: nn.Module, arithmetic: FP32, split: Split) -> Predictions:
        """Evaluate `model` over a split, leaving its state as it was.

        A window of text is as many predictions as it has tokens, each with an output (V,).
        """
        targets = split.targets
        rows = max(1, EVALUATION_BATCH // targets[0].numel())
        with _evaluating(model):
            batches = map(arithmetic.inputs, torch.split(split.inputs, rows))
            outputs = torch.cat([arithmetic.outputs(model(batch)) for batch in batches])
            loss = self.task.loss(outputs, targets).item()
        if outputs.shape[:-1] == targets.shape:
            outputs, targets = outputs.flatten(0, -2), targets.flatten()
        return Predictions(outputs, targets, loss)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, without gradients; each gets its own mode back."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
