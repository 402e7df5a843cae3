"""Floating-point operations of a region, counted by the operations that torch dispatches.

What counts: products of matrices and vectors, convolutions, attention, factorizations and
solves, eigenvalues and singular values, Fourier transforms, scattered sums (`index_add` and its
kin). A multiplication and an addition are one operation each. As is usual in the field,
elementwise operations, reductions and optimizer updates count 0, and so does moving data; an
outer product is elementwise to torch.

Formulas are those of `flop_formulas` and `flop_factorizations`, then `torch.utils.flop_counter`'s.
A factorization's count is a convention: the same for every matrix of a shape.

What is different while a meter is open, as under any dispatch mode: torch computes singular
vectors for `svdvals`, and eigenvectors for `eigvalsh` and `eigvals` (and so for spectral norms,
ranks and condition numbers); they are counted, and the values may differ in their last bits. A
function made by `torch.compile` runs uncompiled, and is counted as that. Not seen: what other
threads do that torch didn't start for a backward pass, and NumPy or SciPy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch._ops import HigherOrderOperator
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from sketchbench.measure import flop_factorizations  # noqa: F401  # it registers its formulas
from sketchbench.measure.flop_formulas import FORMULAS, Formula
from sketchbench.protocols import Missing, Watched

KNOWN = ("aten", "prim", "prims", "profiler", "c10d", "_c10d_functional")  # no formula: counts 0
UNCOUNTABLE = {  # those of torch's own that do much, how much no formula here says
    "aten::_cdist_backward",
    "aten::_cdist_forward",
    "aten::_cslt_sparse_mm",
    "aten::_cudnn_rnn",
    "aten::_cudnn_rnn_backward",
    "aten::_dyn_quant_matmul_4bit",
    "aten::_euclidean_dist",
    "aten::_grouped_mm",
    "aten::_mixed_dtypes_linear",
    "aten::_native_multi_head_attention",
    "aten::_pdist_backward",
    "aten::_pdist_forward",
    "aten::_scaled_grouped_mm",
    "aten::_sparse_sparse_matmul",
    "aten::_spsolve",
    "aten::_transformer_encoder_layer_fwd",
    "aten::_trilinear",
    "aten::_weight_int4pack_mm",
    "aten::_weight_int8pack_mm",
    "aten::conv_tbc",
    "aten::linalg_matrix_exp",
    "aten::_segment_reduce_backward",
    "aten::segment_reduce",
    "aten::miopen_rnn",
    "aten::miopen_rnn_backward",
    "aten::mkldnn_rnn_layer",
    "aten::mkldnn_rnn_layer_backward",
}


class FlopCount(NamedTuple):
    """FLOPs of one occurrence, by operation; `missing` says of what there is no count."""

    total: int
    by_op: Mapping[str, int]
    missing: tuple[str, ...] = ()


class Flops:
    """Counts FLOPs between `start` and `stop`, backward passes included."""

    def __init__(self, device: torch.device | None = None, watched: Watched | None = None) -> None:
        self._counting: _Counting | None = None

    def start(self) -> None:
        """Begin to count."""
        counting = _Counting()
        counting.__enter__()  # type: ignore[no-untyped-call]
        _open.append(counting)
        self._counting = counting

    def stop(self) -> FlopCount:
        """End and return what was counted."""
        counting, self._counting = self._counting, None
        if counting is None:
            raise RuntimeError("Flops.stop: it was not started")
        _open.remove(counting)
        counting.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        by_op = dict(sorted(counting.by_op.items(), key=lambda item: -item[1]))
        return FlopCount(sum(by_op.values()), by_op, tuple(sorted(counting.missing)))


def register(name: str, formula: Formula) -> None:
    """Give an operation its formula, by its qualified name: `register("mine::hadamard", count)`.

    The formula gets the operation's own arguments, and the result as `out_val`, and returns an
    int; it must not read data. Without one, a custom operation makes the count missing. Raises
    `ValueError` for what is no qualified name, or has another formula already.
    """
    if not re.fullmatch(r"\w+::\w+", name):
        raise ValueError(f"register: '{name}' is not a qualified name such as 'mine::hadamard'")
    if FORMULAS.get(name, formula) is not formula:
        raise ValueError(f"register: '{name}' has a formula already")
    FORMULAS[name] = formula


def counted(flops: int) -> AbstractContextManager[None]:
    """Count the enclosed code with `flops`, whatever is in it: for work done elementwise.

    Butterflies in plain torch are additions and multiplications that count 0 by themselves. Of
    nested blocks the outermost counts. Costs next to nothing while no meter is open.
    """
    return _Counted(flops) if _open else _nothing


# ---------------------------------------------------------------- while a meter is open

_nothing = nullcontext()
_open: list[_Counting] = []  # meters that are open, whatever thread asks


class _Counted:
    """One `counted` block: what was open when it began is given its number."""

    def __init__(self, flops: int) -> None:
        if flops < 0 or flops != int(flops):
            raise ValueError(f"counted: {flops} is no number of operations")
        self._flops = int(flops)
        self._told: list[_Counting] = []

    def __enter__(self) -> None:
        self._told = list(_open)
        for counting in self._told:
            if not counting.paused:
                counting.add("counted", self._flops)
            counting.paused += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for counting in self._told:
            counting.paused -= 1


class _Counting(TorchDispatchMode):
    """Adds up the formulas of the operations that pass."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.by_op: dict[str, int] = {}
        self.missing: set[str] = set()
        self.paused = 0

    def add(self, name: str, flops: int) -> None:
        """Add to an operation's count."""
        if flops:
            self.by_op[name] = self.by_op.get(name, 0) + flops

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if any(hasattr(kind, "__tensor_flatten__") for kind in types):
            return NotImplemented  # a wrapper's own operations on plain tensors come here next
        higher = isinstance(func, HigherOrderOperator)
        name = f"higher_order::{func.name()}" if higher else func._schema.name
        formula = FORMULAS.get(name) or flop_registry.get(func if higher else func.overloadpacket)
        if formula is None and not name.startswith(("higher_order::", "prim::")):
            with self:  # in inference mode a composite operation comes whole
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        result = func(*args, **kwargs)
        if not self.paused:
            self._count(name, formula, args, kwargs, result)
        return result

    def _count(
        self, name: str, formula: Formula | None, args: Any, kwargs: Mapping[str, Any], result: Any
    ) -> None:
        space, _, short = name.partition("::")
        if formula is not None:
            try:
                flops = int(formula(*args, **kwargs, out_val=result))
            except Missing as missing:
                self.missing.add(str(missing))
            else:
                self.add(short.strip("_") if space == "aten" else f"{space}.{short}", flops)
        elif space not in KNOWN or name in UNCOUNTABLE:
            self.missing.add(
                f"{name} has no FLOP formula: sketchbench.measure.register gives it one"
            )
