"""Controls: what training is worth when a layer's weight gradient carries no information."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from sketchbench import ActivationSketch, Field, SketchedModel, Skip
from sketchbench.autodiff import Plain, Scope, linear_layers, replaced

SCOPE = "Linear layers touched: all, hidden (all but the first), or a list of names."


class ZeroGradient(ActivationSketch):
    """Weight gradients of linear layers are zero, everything else is exact.

    The control of every activation sketch: these layers keep no input. That saves memory only
    where nothing else keeps the same storage; after a ReLU or tanh, it is what these keep.
    """

    name = "zero-gradient"
    scope: Scope = Field("all", description=SCOPE)

    def build(self, model: nn.Module, batch_size: int, rng: Generator) -> SketchedModel:
        """Replace the layers in scope; raise `Skip` where there are none."""
        return _controlled(self, model, _Zero)

    def break_even(self, width: int) -> int | None:
        """Return None: after a ReLU, the ReLU keeps the very storage that these layers don't."""
        return None


class RandomGradient(ActivationSketch):
    """Weight gradients of linear layers are Gaussian noise of the exact Frobenius norm.

    A control of quality, not of memory: the exact gradient gives the norm, so inputs are kept.
    """

    name = "random-gradient"
    scope: Scope = Field("all", description=SCOPE)

    def build(self, model: nn.Module, batch_size: int, rng: Generator) -> SketchedModel:
        """Replace the layers in scope; raise `Skip` where there are none."""
        return _controlled(self, model, _Noise, rng)

    def break_even(self, width: int) -> int | None:
        """Return None: the exact gradient gives the norm, so every input is kept."""
        return None


def _controlled(
    recipe: ZeroGradient | RandomGradient,
    model: nn.Module,
    function: type[torch.autograd.Function],
    *extra: Generator,
) -> SketchedModel:
    names = linear_layers(model, recipe.scope)
    if not names:
        raise Skip(f"{recipe.name}: the model has no linear layer in scope '{recipe.scope}'")
    swaps = {name: _Layer(model.get_submodule(name), function, *extra) for name in names}
    return Plain(replaced(model, swaps))


class _Layer(nn.Module):
    """A linear layer with another's weight and bias, and a backward of its own."""

    def __init__(
        self, linear: nn.Module, function: type[torch.autograd.Function], *extra: Generator
    ) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self._function, self._extra = function, extra

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self._function.apply(x, self.weight, self.bias, *self._extra)  # type: ignore[no-untyped-call]
        return out


class _Zero(torch.autograd.Function):
    """x, W, b ↦ xWᵀ + b, with dW = 0; keeps W alone."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        dx, db = _exact(ctx, grad, weight)
        return dx, torch.zeros_like(weight) if ctx.needs_input_grad[1] else None, db


class _Noise(torch.autograd.Function):
    """x, W, b ↦ xWᵀ + b, with dW Gaussian, ‖dW‖ exact; drawn on the CPU, then moved."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, rng: Generator) -> Tensor:
        return F.linear(x, weight, bias)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, _, ctx.rng = inputs
        ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dx, db = _exact(ctx, grad, weight)
        if x is None:
            return dx, None, db, None
        exact = _rows(grad).mT @ _rows(x).to(grad.dtype)
        noise = torch.randn(weight.shape, generator=ctx.rng).to(weight)
        return dx, noise * (exact.norm() / noise.norm()).to(noise.dtype), db, None


def _exact(ctx: Any, grad: Tensor, weight: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return the exact gradients of the input (..., n) and of the bias (m,), where needed."""
    dx = grad @ weight.to(grad.dtype) if ctx.needs_input_grad[0] else None
    return dx, _rows(grad).sum(0) if ctx.needs_input_grad[2] else None


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])
