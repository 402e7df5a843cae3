"""Curvature of a model's mean loss as products with flat vectors; no matrix is ever formed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.func import grad, jvp, vjp

from sketchbench.curvature.function import Function, differentiable
from sketchbench.curvature.gradients import Loss

Kind = Literal["hessian", "ggn", "fisher", "empirical-fisher"]
Product = Callable[[Tensor], Tensor]
"""A symmetric matrix: v (N,) -> Av (N,)."""


@dataclass(frozen=True)
class Curvature:
    """A symmetric (size, size) matrix of a loss at the parameters of a model, by its products."""

    size: int
    dtype: torch.dtype
    device: torch.device
    product: Product

    def __call__(self, vector: Tensor) -> Tensor:
        """Return its product with a vector (N,) of the parameters' precision."""
        if vector.shape != (self.size,) or vector.dtype != self.dtype:
            raise ValueError(
                f"curvature: a {vector.dtype} vector of shape {tuple(vector.shape)} doesn't fit; "
                f"expected {self.dtype} of shape ({self.size},)"
            )
        with differentiable():
            return self.product(vector).detach()


def curvature(
    kind: Kind,
    model: nn.Module,
    loss: Loss,
    inputs: Tensor,
    targets: Tensor,
    layers: str = "*",
    dtype: torch.dtype | None = None,
    chunk: int | None = None,
    samples: int | None = None,
    rng: Generator | None = None,
) -> Curvature:
    """Return the curvature of the mean loss of a batch of n examples, in `layers` alone.

    `hessian` is ∇²L. `ggn` is the mean of JᵀBJ over
    examples, J (outputs, N) the Jacobian of the outputs and B the Hessian of the loss in them.
    `fisher` is that of a softmax over the outputs' last axis: exact, with B = diag(p) − ppᵀ, or
    with `samples` labels a prediction drawn once from p by `rng`. `empirical-fisher` is the mean
    of ggᵀ over the gradients of examples; an example is a row of `inputs`, of all its tokens.

    `chunk` rows are differentiated at once, in a pass of their own for every product, and nothing
    is held between products. By default it is all rows, of which the graph of the first pass is
    held: faster, while it fits. Parameters are read now: later steps of an optimizer don't change
    the matrix. See `Function` for `layers`, `dtype`, and what is refused. Raises `ValueError` for
    a Fisher matrix of another loss than the cross entropy.
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"curvature: chunk {chunk} must be at least 1")
    if samples is not None and (kind != "fisher" or rng is None or samples < 1):
        raise ValueError("curvature: samples (1 or more) need kind 'fisher' and an rng")
    function = Function(model, layers, dtype)
    point = function.vector.clone()
    batch = function.batch(inputs, targets)
    parts = list(_parts(function, point, loss, batch, chunk))
    hold = chunk is None
    weights = [len(part.inputs) / len(inputs) for part in parts]
    with differentiable():
        products = [_product(part, kind, samples, rng, hold) for part in parts]

    def product(vector: Tensor) -> Tensor:
        total = torch.zeros_like(vector)
        for weight, each in zip(weights, products, strict=True):
            total += weight * each(vector)
        return total

    return Curvature(len(point), point.dtype, point.device, product)


def _product(
    part: _Part, kind: Kind, samples: int | None, rng: Generator | None, hold: bool
) -> Product:
    match kind:
        case "hessian":
            return part.hessian(hold)
        case "ggn":
            return part.sandwich(part.loss_hessian(), hold)
        case "fisher":
            return part.sandwich(part.softmax_fisher(samples, rng), hold)
        case "empirical-fisher":
            return part.sandwich(part.outer_gradients(), hold)


def _transposed(function: Callable[[Tensor], Tensor], point: Tensor, hold: bool) -> Product:
    """Return w -> Jᵀw of a function at a point, whose graph is held between calls or made anew.

    A Hessian is the transposed Jacobian of a gradient: forward over reverse would take less
    memory, but `mse_loss` of torch 2.13 fails in it (its targets' tangent is a ZeroTensor).
    """
    held = vjp(function, point)[1] if hold else None

    def product(vector: Tensor) -> Tensor:
        pull = held or vjp(function, point)[1]
        return cast(Tensor, pull(vector)[0])

    return product


@dataclass(frozen=True)
class _Part:
    """Some rows of a batch, at a point (N,) of the parameters."""

    function: Function
    point: Tensor
    loss: Loss
    inputs: Tensor
    targets: Tensor

    def outputs(self, vector: Tensor) -> Tensor:
        return self.function(vector, self.inputs)

    def hessian(self, hold: bool) -> Product:
        slope = grad(lambda at: self.loss(self.outputs(at), self.targets))
        return _transposed(slope, self.point, hold)

    def sandwich(self, inner: Product, hold: bool) -> Product:
        """Return v -> Jᵀ·inner(Jv)."""
        pull = _transposed(self.outputs, self.point, hold)

        def product(vector: Tensor) -> Tensor:
            moved = cast(Tensor, jvp(self.outputs, (self.point,), (vector,))[1])
            return pull(inner(moved))

        return product

    def loss_hessian(self) -> Product:
        outputs = self.outputs(self.point).detach()
        return _transposed(grad(lambda at: self.loss(at, self.targets)), outputs, hold=True)

    def softmax_fisher(self, samples: int | None, rng: Generator | None) -> Product:
        outputs = self.outputs(self.point).detach()
        self._check_cross_entropy(outputs)
        chances = outputs.softmax(-1)
        count = self.targets.numel()
        if samples is None:
            return lambda moved: chances * (moved - (chances * moved).sum(-1, keepdim=True)) / count
        # drawn on the CPU, so that every device sees the same labels
        rows = chances.flatten(0, -2).double().cpu()
        labels = torch.multinomial(rows, samples, replacement=True, generator=rng)
        residuals = torch.stack(
            [
                chances - F.one_hot(drawn, chances.shape[-1]).view_as(chances).to(chances)
                for drawn in labels.T.to(chances.device)
            ]
        )
        return lambda moved: (
            (residuals * (residuals * moved).sum(-1, keepdim=True)).sum(0) / (count * samples)
        )

    def outer_gradients(self) -> Product:
        outputs = self.outputs(self.point).detach()
        count = len(self.inputs)
        # of each example's own loss: the batch's is their mean
        slopes: Tensor = count * grad(lambda at: self.loss(at, self.targets))(outputs)

        def inner(moved: Tensor) -> Tensor:
            along = (slopes * moved).flatten(1).sum(1) / count
            return slopes * along.view(-1, *[1] * (slopes.dim() - 1))

        return inner

    def _check_cross_entropy(self, outputs: Tensor) -> None:
        classes = (
            outputs.dim() >= 2
            and outputs.shape[:-1] == self.targets.shape
            and not self.targets.is_floating_point()
        )
        if classes:
            expected = F.cross_entropy(outputs.flatten(0, -2), self.targets.flatten())
            found = self.loss(outputs, self.targets)
            classes = torch.allclose(found, expected, rtol=1e-4, atol=1e-6)
        if not classes:
            raise ValueError(
                "curvature: a Fisher matrix needs the mean cross entropy of a softmax over the "
                f"last axis, and classes as targets; got outputs of shape {tuple(outputs.shape)}, "
                f"{self.targets.dtype} targets of shape {tuple(self.targets.shape)} or another "
                "loss; take 'ggn'"
            )


def _parts(
    function: Function,
    point: Tensor,
    loss: Loss,
    batch: tuple[Tensor, Tensor],
    chunk: int | None,
) -> Iterator[_Part]:
    inputs, targets = batch
    if len(inputs) != len(targets) or not len(inputs):
        raise ValueError(f"curvature: {len(inputs)} inputs and {len(targets)} targets")
    rows = chunk or len(inputs)
    for some, wanted in zip(inputs.split(rows), targets.split(rows), strict=True):
        yield _Part(function, point, loss, some, wanted)
