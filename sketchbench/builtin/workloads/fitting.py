"""Fitting: exact training to the end, where the trained model is what an experiment starts from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from sketchbench import Diverged, Optimizer, Run
from sketchbench.autodiff import Plain, seeded
from sketchbench.builtin.workloads.loop import Training

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sketchbench import Split


def fit(
    training: Training,
    model: nn.Module,
    data: Split,
    run: Run,
    *,
    chosen: Tensor | None = None,
    optimizer: Optimizer | None = None,
    purpose: str = "fit",
) -> float:
    """Train `model` for all epochs on `data`, in place; return the last epoch's mean loss.

    `chosen` (m,) are positions of the examples that it sees, all by default, on the CPU; the
    optimizer is the training's by default. Batches, augmentation and dropout are drawn for
    `purpose`. Raises `Diverged` where the loss isn't finite.
    """
    positions = torch.arange(len(data.targets)) if chosen is None else chosen
    targets = data.targets.cpu()[positions]
    built = (optimizer or training.optimizer).build(model.parameters())
    run.watch(model=model, optimizer=built)
    rates = [group["lr"] for group in built.param_groups]
    shuffle, augment = run.rng(f"{purpose}/shuffle"), run.rng(f"{purpose}/augment")
    plain, step, mean = Plain(model), 0, math.nan
    batches = training.batches(targets, shuffle)
    model.train()
    with seeded(run.rng(f"{purpose}/noise")):
        for epoch in range(1, training.epochs + 1):
            if epoch > 1 and training.batching == "shuffled":
                batches = training.batches(targets, shuffle)
            losses = []
            for batch in batches:
                at = positions[batch].to(run.device)
                inputs = training.task.transform(data.inputs[at], augment, step)
                scale = training.factor(step, len(batches))
                for group, rate in zip(built.param_groups, rates, strict=True):
                    group["lr"] = rate * scale
                built.zero_grad(set_to_none=True)
                losses.append(plain.accumulate(inputs, data.targets[at], training.task.loss))
                built.step()
                step += 1
            mean = torch.stack(losses).double().mean().item()
            if not math.isfinite(mean):
                raise Diverged(f"the training loss is {mean} at epoch {epoch} of '{purpose}'")
    return mean
