"""Non-linearities that follow a linear layer: what each keeps to tell δ in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from sketchbench_tri_sketch.packing import pack_bits, pack_rows, unpack_bits, unpack_rows

Smooth = Literal["keep", "8bit", "recompute"]
Slope = Callable[[Tensor, Tensor], Tensor]  # ∂loss/∂σ(z) and z ↦ ∂loss/∂z

_aten: Any = torch.ops.aten


class Identity:
    """No non-linearity: δ is the loss's gradient by the layer's output."""

    twice: ClassVar[bool] = True  # δ may be differentiated again

    def forward(self, fresh: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Return σ(z) and what is kept; z (…, m) is nobody else's and may be overwritten."""
        return fresh, ()

    def delta(self, grad: Tensor, kept: Sequence[Tensor]) -> Tensor:
        """Return δ (…, m), the loss's gradient by z, from that by σ(z)."""
        return grad


class Relu(Identity):
    """max(z, 0): one bit an entry; δ is exact, to the bit."""

    def forward(self, fresh: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Return max(z, 0) and which entries pass, packed."""
        out = fresh.relu_()
        return out, (pack_bits(out <= 0),)

    def delta(self, grad: Tensor, kept: Sequence[Tensor]) -> Tensor:
        """Return the gradient where z was positive (or no number), 0 elsewhere."""
        passes = unpack_bits(~kept[0], grad.shape).view(torch.uint8).to(grad.dtype)
        spare = {} if torch.is_grad_enabled() else {"grad_input": passes}
        delta: Tensor = _aten.threshold_backward(grad, passes, 0, **spare)
        return delta


class Quantised(Identity):
    """A smooth σ whose pre-activation is kept in 8 bits an entry, by rows: δ is approximate.

    So are, then, the gradients of this layer's bias and of all layers before it.
    """

    twice = False

    def __init__(self, module: nn.Module) -> None:
        self._module, self._slope = module, slope_of(module)

    def forward(self, fresh: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        """Return σ(z) and z in 8 bits."""
        kept = pack_rows(fresh.reshape(-1, fresh.shape[-1]))  # before σ, which may be in place
        out: Tensor = self._module(fresh)
        return out, kept

    def delta(self, grad: Tensor, kept: Sequence[Tensor]) -> Tensor:
        """Return the gradient times σ' of the approximate pre-activation."""
        return self._slope(grad, unpack_rows(*kept).view(grad.shape).to(grad.dtype))


def slope_of(module: nn.Module) -> Slope:
    """Return how a smooth σ turns the gradient by σ(z) into that by z; differentiable."""
    if isinstance(module, nn.Tanh):
        return lambda grad, z: _aten.tanh_backward(grad, z.tanh())
    if isinstance(module, nn.SiLU):
        return _silu_slope
    assert isinstance(module, nn.GELU)
    return lambda grad, z: _aten.gelu_backward(grad, z, approximate=module.approximate)


def _silu_slope(grad: Tensor, z: Tensor) -> Tensor:
    gate = z.sigmoid()  # torch's own backward of SiLU has no derivative
    return grad * gate * (1 + z * (1 - gate))


def is_nonlinearity(module: nn.Module | None) -> bool:
    """Say whether a block takes this module in, if it follows the linear layer."""
    return type(module) is nn.ReLU or is_smooth(module)


def is_smooth(module: nn.Module | None) -> bool:
    """Say whether it is one whose slope needs the pre-activation, or the output, as a number."""
    return type(module) in (nn.Tanh, nn.GELU, nn.SiLU)
