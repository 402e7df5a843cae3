"""Fake tensors, where torch's own leave out what a prediction of memory needs."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
import torch._functorch.config
from torch import Tensor
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    UnsupportedFakeTensorException,
)
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

NEEDS_VALUES = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
)
_REAL = (  # what torch says when a fake tensor is asked for its memory, or a real one is mixed in
    "FakeTensor",
    "data_ptr",
    "data pointer",
    "not supported for tensor subclasses",
)
_aten = torch.ops.aten
_NORMS = (
    _aten.native_batch_norm.default,
    _aten._native_batch_norm_legit.default,
    _aten._native_batch_norm_legit.no_stats,
    _aten.native_layer_norm.default,
    _aten.native_group_norm.default,
)
_CALLS = {"aten._local_scalar_dense": "Tensor.item()", "aten.is_nonzero": "bool(Tensor)"}
_BELOW = ("torch/_", "torch/utils/", "torch/fx/", "sketchbench/measure/", "sketchbench/fakes")


@contextmanager
def fake_tensors() -> Iterator[FakeTensorMode]:
    """Make every tensor that is born inside a fake one, on the CPU; its address can't be had."""
    guarded = torch._functorch.config.patch(fake_tensor_allow_unsafe_data_ptr_access=False)
    with ExitStack() as stack:
        stack.enter_context(guarded)
        mode = stack.enter_context(FakeTensorMode())
        stack.enter_context(_AsKernelsDo(mode))
        stack.enter_context(_moving())
        yield mode


def without_values(error: Exception) -> str | None:
    """Return why a computation can't go on without values; None where that isn't its trouble."""
    if isinstance(error, NEEDS_VALUES):
        operation = str(error.args[0] if error.args else error).removesuffix(".default")
        called = f"{_CALLS[operation]} ({operation})" if operation in _CALLS else operation
        return f"it depends on values: {called}{_place(error)}"
    text = str(error).strip().split("\n", 1)[0]
    kinds = (RuntimeError, AssertionError, TypeError)
    if isinstance(error, kinds) and any(sign in str(error) for sign in _REAL):
        return f"it needs real tensors: {text}{_place(error)}"
    return None


def _place(error: Exception) -> str:
    """Return where the code above torch's dispatch asked: ` in optim/adafactor.py, line 12`."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename).as_posix()
        if not any(part in path for part in _BELOW):
            return f" in {'/'.join(Path(path).parts[-2:])}, line {frame.lineno}"
    return ""


class _AsKernelsDo(TorchDispatchMode):
    """Corrects fake results by what torch's kernels return.

    1. A norm of half-precision inputs with fp32 weights keeps its statistics in fp32; fake ones
       have the inputs' format, and group norm's gradient the weights'. (torch 2.13, by comparison)
    2. One number drawn from a generator that was handed in is drawn: a seed is no datum.
    """

    def __init__(self, fake: FakeTensorMode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._fake = fake

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func in _NORMS:
            weights = [t for t in (*args[1:], *kwargs.values()) if isinstance(t, Tensor)]
            if any(weight.dtype is torch.float32 for weight in weights):
                out = (out[0], *(statistic.float() for statistic in out[1:]))
        elif func is _aten.native_group_norm_backward.default and out[0] is not None:
            out = (out[0].to(args[1].dtype), *out[1:])
        elif (
            kwargs.get("generator") is not None
            and isinstance(out, FakeTensor)
            and out.numel() == 1
            and not any(isinstance(each, Tensor) for each in args)
        ):
            with _disable_current_modes():
                drawn = func(*args, **kwargs)
            return self._fake.fake_tensor_converter.from_real_tensor(
                self._fake, drawn, make_constant=True
            )
        return out


@contextmanager
def _moving() -> Iterator[None]:
    """Let `Module.to` move fake parameters as it moves real ones: in place, by their data.

    torch swaps fake tensors instead, and refuses where anything refers to them already.
    """
    swap = torch.utils.swap_tensors

    def moved(old: Tensor, new: Tensor) -> None:
        if isinstance(old, FakeTensor) and isinstance(new, FakeTensor):
            old.data = new.detach()
        else:
            swap(old, new)  # type: ignore[no-untyped-call]

    torch.utils.swap_tensors = moved
    try:
        yield
    finally:
        torch.utils.swap_tensors = swap
