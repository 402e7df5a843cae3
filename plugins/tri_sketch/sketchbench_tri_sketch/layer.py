"""The autograd functions of a layer block: exact outputs, and gradients from what was kept."""

from __future__ import annotations

from collections.abc import Callable, MutableSet, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sketchbench.measure import category
from sketchbench_tri_sketch.draws import wide
from sketchbench_tri_sketch.nonlinearity import Identity, slope_of
from sketchbench_tri_sketch.reading import Reading

graph_task: Callable[[], int] = torch._C._current_graph_task_id
NO_TASK = -1


class Call:
    """One forward pass of a block: what its backward pass must know, besides tensors.

    `waiting` are the passes of the same block whose backward pass is still to come.
    """

    def __init__(
        self, inside: Identity, reading: Reading | None, waiting: MutableSet[Call]
    ) -> None:
        self.inside, self.reading = inside, reading
        self.note: Any = None
        self._waiting = waiting

    def keep(self, x: Tensor, outputs: Tensor | None) -> Sequence[Tensor]:
        """Let the reading, if there is one, keep what it does of x (..., d)."""
        if self.reading is None:
            return ()
        recomputing = graph_task() != NO_TASK
        flat = None if outputs is None else _widened(_rows(outputs))
        with category("sketch"), _as_typed(x):
            kept, self.note = self.reading.keep(_widened(_rows(x)), flat, not recomputing)
        if not recomputing:
            self._waiting.add(self)
        elif any(self.note != other.note for other in self._waiting):
            raise RuntimeError(
                f"{self.reading.method}: a layer ran several times before the backward pass that "
                "recomputes it, so that its projections are unknown; let each backward pass "
                "follow its forward pass, or don't checkpoint sketched layers"
            )
        return kept

    def gradient(self, delta: Tensor, kept: Sequence[Tensor]) -> Tensor:
        """Return the reading's weight gradient (m, d) from δ (rows, m)."""
        assert self.reading is not None
        self._waiting.discard(self)
        return self.reading.gradient(_widened(delta), kept, self.note)

    def refuse_to_repeat(self) -> None:
        """Raise `RuntimeError` where this gradient can't be differentiated again."""
        if self.reading is not None and not self.reading.twice:
            raise RuntimeError(
                f"{self.reading.method}: its gradients can't be differentiated again "
                "(create_graph=True); 'unbiased' and 'ema-basis' can"
            )
        if not self.inside.twice:
            raise RuntimeError(
                "smooth=8bit: gradients can't be differentiated again (create_graph=True); "
                "use smooth=keep or smooth=recompute"
            )


def sketched_layer(x: Tensor, weight: Tensor, bias: Tensor | None, call: Call) -> Tensor:
    """Return σ(xWᵀ + b) (..., m), whose gradient by W is the reading's, from what it keeps."""
    kept: Sequence[Tensor] = ()
    if call.reading is not None and not call.reading.looks_ahead:
        with torch.set_grad_enabled(call.reading.twice):
            kept = call.keep(x, None)
    out: Tensor = _Layer.apply(x, weight, bias, call, *kept)  # type: ignore[no-untyped-call]
    return out


def recomputed_layer(
    x: Tensor, weight: Tensor, bias: Tensor | None, nonlinearity: nn.Module
) -> Tensor:
    """Return σ(xWᵀ + b) (..., m) with an exact gradient; x is kept, σ's input computed again."""
    out: Tensor = _Recomputed.apply(x, weight, bias, nonlinearity)  # type: ignore[no-untyped-call]
    return out


class _Layer(torch.autograd.Function):
    """x, W, b, kept ↦ σ(xWᵀ + b).

    What is kept comes in as inputs, so that its own history is known to a second derivative.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, call: Call, *kept: Tensor
    ) -> Tensor:
        out, own = call.inside.forward(_linear(x, weight, bias))
        if call.reading is not None and call.reading.looks_ahead:
            kept = tuple(call.keep(x, out))
        ctx.call, ctx.own = call, len(own)
        ctx.save_for_backward(weight, *own, *kept)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        if torch.is_grad_enabled():
            call.refuse_to_repeat()
        weight, *rest = ctx.saved_tensors
        own, kept = rest[: ctx.own], rest[ctx.own :]
        dx = dw = db = None
        with _as_typed(grad):
            delta = call.inside.delta(grad, own)
            if ctx.needs_input_grad[0]:
                dx = delta @ weight.to(delta.dtype)
            if ctx.needs_input_grad[1]:
                dw = call.gradient(_rows(delta), kept).to(weight.dtype)
            if ctx.needs_input_grad[2]:
                db = _rows(delta).sum(0)
        return dx, dw, db, *[None] * (len(ctx.needs_input_grad) - 3)


class _Recomputed(torch.autograd.Function):
    """x, W, b ↦ σ(xWᵀ + b)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, nonlinearity: nn.Module
    ) -> Tensor:
        before = _linear(x, weight, bias)
        out: Tensor = nonlinearity(before)
        ctx.dtype, ctx.slope = before.dtype, slope_of(nonlinearity)
        ctx.save_for_backward(x, weight, bias)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        x, weight = x.to(ctx.dtype), weight.to(ctx.dtype)
        bias = None if bias is None else bias.to(ctx.dtype)
        dx = dw = db = None
        with _as_typed(grad):
            before = F.linear(x, weight, bias)
            delta = ctx.slope(grad, before.to(grad.dtype)).to(ctx.dtype)
            if ctx.needs_input_grad[0]:
                dx = delta @ weight
            if ctx.needs_input_grad[1]:
                dw = _rows(delta).mT @ _rows(x)
            if ctx.needs_input_grad[2]:
                db = _rows(delta).sum(0)
        return dx, dw, db, None


def _widened(x: Tensor) -> Tensor:
    return x.to(wide(x.dtype))


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return xWᵀ + b as autocast would; its cache would lose other layers' gradients by W."""
    kind = x.device.type
    if not torch.is_autocast_enabled(kind) or x.dtype == torch.float64:
        return F.linear(x, weight, bias)
    dtype = torch.get_autocast_dtype(kind)
    with torch.autocast(kind, enabled=False):
        return F.linear(x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))


def _as_typed(x: Tensor) -> AbstractContextManager[Any]:
    """Compute in the types at hand, under autocast too."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
