"""The autograd functions of a layer block: exact outputs, and gradients from what was kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sketchbench.measure import category
from sketchbench_tri_sketch.draws import wide
from sketchbench_tri_sketch.nonlinearity import Identity, slope_of
from sketchbench_tri_sketch.passes import as_typed, recomputing
from sketchbench_tri_sketch.reading import Reading


class Passes:
    """The forward passes of one block that its reading has seen, recomputations left out."""

    def __init__(self) -> None:
        self.count = 0
        self.waiting: WeakSet[Call] = WeakSet()  # whose backward pass is still to come


class Call:
    """One forward pass of a block: what its backward pass must know, besides tensors.

    `inside` is what the layer's function does to its output, `outside` what is done after it.
    """

    def __init__(
        self,
        inside: Identity,
        outside: nn.Module | None,
        reading: Reading | None,
        passes: Passes,
    ) -> None:
        self.inside, self.outside, self.reading = inside, outside, reading
        self.note: Any = None
        self.number = 0  # of the pass, from 1
        self._passes = passes

    def keep(self, x: Tensor, outputs: Tensor | None) -> Sequence[Tensor]:
        """Let the reading, if there is one, keep what it does of x (..., d)."""
        if self.reading is None:
            return ()
        update = not recomputing()
        if not update:
            self._refuse_what_cannot_be_repeated(self.reading)
        flat = None if outputs is None else _widened(_rows(outputs))
        with category("sketch"), as_typed(x):
            kept, self.note = self.reading.keep(_widened(_rows(x)), flat, update)
        if update:
            self._passes.count += 1
            self._passes.waiting.add(self)
        self.number = self._passes.count
        return kept

    def after(self, out: Tensor) -> Tensor:
        """Return the block's output (..., m) from that of the layer's function, which stays."""
        return out if self.outside is None else self.outside(out.clone())

    def gradient(self, delta: Tensor, kept: Sequence[Tensor]) -> Tensor:
        """Return the reading's weight gradient (m, d) from δ (rows, m)."""
        assert self.reading is not None
        self._passes.waiting.discard(self)
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

    def _refuse_what_cannot_be_repeated(self, reading: Reading) -> None:
        """Raise `RuntimeError` where the state isn't that of the pass that is recomputed."""
        if not reading.moves:
            return
        if not self._passes.count:
            raise RuntimeError(
                f"{reading.method}: a layer is recomputed that has never run with gradients, so "
                "that its state would never move (reentrant checkpointing); use "
                "checkpoint(..., use_reentrant=False)"
            )
        if any(call.number != self._passes.count for call in self._passes.waiting):
            raise RuntimeError(
                f"{reading.method}: a layer ran several times before the backward pass that "
                "recomputes it, so that its projections are unknown; let each backward pass "
                "follow its forward pass, or don't checkpoint sketched layers"
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
            kept = tuple(call.keep(x, call.after(out)))
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
        with as_typed(grad):
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
        with as_typed(grad):
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
