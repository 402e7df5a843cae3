"""Training in a random subspace: θ₀ + Φᵀω, and two ways to the gradient with respect to ω."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from sketchbench.autodiff import unflatten
from sketchbench.curvature import Function

if TYPE_CHECKING:
    from sketchbench import LinearSketch

Loss = Callable[[Tensor, Tensor], Tensor]
Gradient = Literal["explicit", "implicit"]


class Subspace:
    """The models θ₀ + Φᵀω, for a sketch Φ (D, N) of all trained parameters; ω (D,) starts at 0.

    θ₀ are the parameters that `model` has when this is made. [Li et al. 2018, eq. 2]
    """

    def __init__(self, model: nn.Module, sketch: LinearSketch) -> None:
        self._model = model
        self._function = Function(model)
        self._start = self._function.vector.clone()
        self._sketch = sketch
        self._ways = {"explicit": self._explicit, "implicit": self._implicit}

    def gradient(
        self, way: Gradient, omega: Tensor | None, inputs: Tensor, targets: Tensor, loss: Loss
    ) -> tuple[Tensor, Tensor]:
        """Return the mean loss of a batch at ω, and its gradient with respect to ω (D,).

        `explicit` differentiates with respect to the parameters and applies Φ to what comes out;
        `implicit` differentiates ω ↦ L(θ₀ + Φᵀω). The two are equal, to rounding. None is ω = 0,
        where the first needs no Φᵀ.
        """
        return self._ways[way](omega, lambda vector: loss(self(vector, inputs), targets))

    def __call__(self, vector: Tensor, inputs: Tensor) -> Tensor:
        """Return the model's outputs of a batch with the parameters `vector` (N,)."""
        return self._function(vector, inputs)

    def place(self, omega: Tensor) -> nn.Module:
        """Return the model, its parameters now θ₀ + Φᵀω."""
        own = [self._model.get_parameter(name) for name in self._function.sizes]
        with torch.no_grad():
            vector = self._start + self._sketch.adjoint(omega.detach())
            for parameter, value in zip(own, unflatten(vector, own), strict=True):
                parameter.copy_(value)
        return self._model

    def _explicit(
        self, omega: Tensor | None, loss: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        vector = self._start
        if omega is not None:
            vector = vector + self._sketch.adjoint(omega.detach())
        vector = vector.detach().requires_grad_()
        mean = loss(vector)
        (found,) = torch.autograd.grad(mean, vector)
        return mean.detach(), self._sketch.apply(found)

    def _implicit(
        self, omega: Tensor | None, loss: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        if omega is None:
            omega = self._start.new_zeros(self._sketch.shape[0])
        omega = omega.detach().requires_grad_()
        mean = loss(self._start + lift(self._sketch, omega))
        (found,) = torch.autograd.grad(mean, omega)
        return mean.detach(), found


def lift(sketch: LinearSketch, omega: Tensor) -> Tensor:
    """Return Φᵀω (N,), differentiable with respect to ω whatever the sketch is made of.

    The derivative is transposed as JAX does it, by Φ itself: no sketch need be differentiable (a
    compiled kernel isn't), and nothing inside Φᵀ is kept for the backward pass.
    """
    return _Lift.apply(omega, sketch)  # type: ignore[no-untyped-call, no-any-return]


class _Lift(torch.autograd.Function):
    """ω ↦ Φᵀω, whose derivative transposed is Φ."""

    @staticmethod
    def forward(omega: Tensor, sketch: LinearSketch) -> Tensor:
        return sketch.adjoint(omega)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.sketch = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.sketch.apply(grad), None
