"""Directions: the unit vectors on which gradient sketches are tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F

from sketchbench import Model, Optimizer, Skip, Task
from sketchbench.autodiff import seeded
from sketchbench.curvature import gradients, sizes
from sketchbench.linalg import adversarial

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Generator, Tensor, nn

    from sketchbench import Run

NAMED = ("axis", "pair", "half-pair", "column", "rank-1", "ones", "layer", "ends")
Directions = Literal[
    "gaussian",
    "spike",
    "axis",
    "pair",
    "half-pair",
    "column",
    "rank-1",
    "ones",
    "layer",
    "ends",
    "adversarial",
    "gradients",
]
CHUNK = 16  # examples differentiated at once
BATCH = 64  # examples a training step


def drawn(directions: str, count: int, size: int, rng: Generator) -> Tensor:
    """Return unit vectors (count, size): `gaussian` ones, or distinct axes, `spike`."""
    if directions == "spike":
        axes = torch.randperm(size, generator=rng)[:count]
        return torch.zeros(count, size).scatter_(1, axes[:, None], 1.0)
    return F.normalize(torch.randn(count, size, generator=rng), dim=1)


def named(directions: str, size: int, out_size: int) -> tuple[tuple[str, ...], Tensor]:
    """Return names and unit vectors (n, size) of one adversarial input, or of all that fit.

    Raises `Skip` for one that doesn't fit into `size`.
    """
    inputs = adversarial(size, out_size)
    names = tuple(inputs) if directions == "adversarial" else (directions,)
    if directions not in ("adversarial", *inputs):
        raise Skip(f"distortion: '{directions}' for D = {out_size} doesn't fit into N = {size}")
    return names, torch.stack([inputs[name] for name in names]).float()


def trained(
    run: Run, task: Task, model: Model, optimizer: Optimizer | None, steps: int
) -> nn.Module:
    """Return the model in evaluation, on the CPU, after `steps` of training on shuffled batches."""
    with seeded(run.rng("weights")):
        built = model.build(task.shapes)
    if optimizer is None or not steps:
        return built.eval()
    data, order = task.load("train"), run.rng("shuffle")
    learning = optimizer.build(built.train().parameters())
    with seeded(run.rng("noise")):  # what a model itself draws: dropout
        for _ in range(steps):
            chosen = torch.randperm(len(data.inputs), generator=order)[:BATCH]
            learning.zero_grad(set_to_none=True)
            task.loss(built(data.inputs[chosen]), data.targets[chosen]).backward()
            learning.step()
    return built.eval()


def example_gradients(
    run: Run, task: Task, model: nn.Module, count: int
) -> tuple[Tensor, Mapping[str, int]]:
    """Return gradients of `count` examples of the training split, (count, N) of length 1, and
    the sizes of the parameters that they are joined from.

    Raises `ValueError` where there are too few examples, or a gradient is 0.
    """
    data = task.load("train")
    if count > len(data.inputs):
        raise ValueError(
            f"distortion: {count} vectors are gradients of as many examples; task '{task.name}' "
            f"has {len(data.inputs)}"
        )
    chosen = torch.randperm(len(data.inputs), generator=run.rng("examples"))[:count]
    found = gradients(model, task.loss, data.inputs[chosen], data.targets[chosen], chunk=CHUNK)
    if not (found.norm(dim=1) > 0).all():
        raise ValueError("distortion: the gradient of an example is 0 or not finite")
    return F.normalize(found, dim=1), sizes(model)
