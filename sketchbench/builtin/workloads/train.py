"""Training: the experiment that activation sketches and optimizers fill."""

from __future__ import annotations

import math
from functools import partial

import torch

from sketchbench import (
    ActivationSketch,
    Diverged,
    Escaped,
    Event,
    Field,
    Predictions,
    Run,
)
from sketchbench.autodiff import Plain, seeded
from sketchbench.builtin.workloads.loop import Training
from sketchbench.builtin.workloads.precision import PRECISIONS, Precision


class Train(Training):
    """Train a model, with or without an activation sketch; score it on held-out data.

    Regions: `step` is forward, backward and update of one batch, `adapt` what a sketch does at an
    epoch's end; gathering and augmenting a batch, and evaluation, are outside. A short last batch
    is dropped, unless it is the only one.
    """

    name = "train"
    regions = ("step", "adapt")
    outcomes = {"test": Predictions, "train": Predictions, "optimizer": Escaped}

    activation: ActivationSketch | None = Field(
        None, description="What is kept for the backward pass; null keeps all of it."
    )
    precision: Precision = Field(
        "fp32",
        description="Arithmetic: fp32; bf16 throughout; or bf16 in the forward, by autocast.",
    )

    def run(self, run: Run) -> None:
        """Train; deliver an event and the outcomes of both splits after each epoch."""
        train, test = (self.task.load(split) for split in ("train", "test"))
        targets = train.targets  # on the CPU, where batches are drawn
        train, test = train.to(run.device), test.to(run.device)
        count = len(train.inputs)
        size = self.size(count)
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
        batches = self.batches(targets, shuffle)
        step, steps = 0, len(batches)

        with seeded(run.rng("noise")):  # what a model itself draws: dropout
            for epoch in range(1, self.epochs + 1):
                if epoch > 1 and self.batching == "shuffled":
                    batches = self.batches(targets, shuffle)
                model.train()
                losses = []
                for batch in batches:
                    chosen = batch.to(run.device)
                    inputs = self.task.transform(train.inputs[chosen], augment, step)
                    inputs = arithmetic.inputs(inputs)
                    wanted = train.targets[chosen]
                    run.watch(inputs=(inputs, wanted))
                    scale = self.factor(step, steps)
                    for group, rate in zip(optimizer.param_groups, rates, strict=True):
                        group["lr"] = rate * scale
                    with run.region("step"):
                        optimizer.zero_grad(set_to_none=True)
                        losses.append(sketched.accumulate(inputs, wanted, loss))
                        optimizer.step()
                    step += 1
                mean = torch.stack(losses).double().mean().item()
                if not math.isfinite(mean):
                    raise Diverged(f"training loss is {mean} at epoch {epoch}")
                details = {"train_loss": mean, "lr": float(optimizer.param_groups[0]["lr"])}
                run.deliver("epoch", Event("epoch", details), at=epoch)
                with run.region("adapt"):
                    changes = sketched.end_epoch(mean)
                for change in changes or ():
                    run.deliver("activation", change, at=epoch)
                run.changed()
                predict = partial(self.predict, model, arithmetic=arithmetic)
                run.deliver("test", partial(predict, test), at=epoch)
                run.deliver("optimizer", partial(_escaped, optimizer), at=epoch)
                run.deliver("train", partial(predict, train), at=epoch)


def _escaped(optimizer: torch.optim.Optimizer) -> Escaped:
    """Return what an optimizer tells of its sketches: nothing, if it has no such method."""
    tell = getattr(optimizer, "escaped_shares", None)
    return Escaped(tell() if tell else torch.zeros(0))
