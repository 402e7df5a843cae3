"""Gradients as flat vectors: of a batch, and of each of its examples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

from sketchbench.curvature.function import Function, differentiable

Loss = Callable[[Tensor, Tensor], Tensor]
"""The mean loss of a batch, a scalar, of outputs (n, ...) and targets (n, ...)."""


def gradient(
    model: nn.Module,
    loss: Loss,
    inputs: Tensor,
    targets: Tensor,
    layers: str = "*",
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return the gradient (N,) of the mean loss of a batch, in the order of `sizes(model)`.

    The model's `.grad` stays as it is. See `Function` for `layers`, `dtype` and what is refused.
    """
    function = Function(model, layers, dtype)
    inputs, targets = function.batch(inputs, targets)
    with differentiable():
        found: Tensor = grad(lambda at: loss(function(at, inputs), targets))(function.vector)
    return found.detach()


def gradients(
    model: nn.Module,
    loss: Loss,
    inputs: Tensor,
    targets: Tensor,
    chunk: int | None = None,
    layers: str = "*",
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return the gradient of each example's loss, (n, N); their mean is that of the batch.

    `chunk` examples are differentiated at once, all by default: beyond the result, that many
    activations and gradients are held. Their mean is `gradient` where the loss is a mean over
    examples. See `Function` for `layers`, `dtype` and what is refused; what draws random numbers
    without a module (functional dropout) raises torch's error.
    """
    if len(inputs) != len(targets):
        raise ValueError(f"gradients: {len(inputs)} inputs but {len(targets)} targets")
    if chunk is not None and chunk < 1:
        raise ValueError(f"gradients: chunk {chunk} must be at least 1")
    function = Function(model, layers, dtype)
    inputs, targets = function.batch(inputs, targets)

    def one(vector: Tensor, example: Tensor, target: Tensor) -> Tensor:
        return loss(function(vector, example[None]), target[None])

    each = vmap(grad(one), in_dims=(None, 0, 0), chunk_size=chunk)
    with differentiable():
        found: Tensor = each(function.vector, inputs, targets)
    return found.detach()
