"""The fast Walsh–Hadamard transform, as products with small Hadamard factors or compiled."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from sketchbench.linalg.compiled import DTYPES, Kernel, chosen, is_plain, transform
from sketchbench.linalg.factors import orders_up_to
from sketchbench.linalg.kronecker import chained
from sketchbench.linalg.workspace import Workspace


def factor_order(device: torch.device | str) -> int:
    """Return the largest order of the Hadamard factors by which a device transforms.

    On a CPU 16: the products are bound by memory and by their own overhead, and factors of 64 to
    1024 took 1.5 to 8 times as long. Elsewhere 64: on an H100, in float32, 16 to 32 and 256
    took up to three times as long from 2^24 on, 128 as long (docs/gpu_measured.md). A table, and
    not a race that is run anew: a seed then gives the same bits in every run.
    """
    return 16 if torch.device(device).type == "cpu" else 64


@lru_cache(maxsize=64)
def hadamard(order: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return Sylvester's Hadamard matrix (order, order), scaled to be orthogonal.

    Raises `ValueError` where the order is no power of two.
    """
    if order < 1 or order & (order - 1):
        raise ValueError(f"hadamard: order {order} is no power of two")
    h = torch.ones(1, 1, dtype=torch.float64)
    while len(h) < order:
        h = torch.cat([torch.cat([h, h], 1), torch.cat([h, -h], 1)])
    h *= order**-0.5
    return h.to(device, dtype)


def hadamard_factors(size: int, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """Return the factors of the Hadamard matrix of a power of two, none above `factor_order`."""
    orders = orders_up_to(factor_order(device), size)
    return [hadamard(order, dtype, device) for order in orders]


def fwht(
    x: Tensor,
    workspace: Workspace | None = None,
    *,
    out: Tensor | None = None,
    kernel: Kernel = "auto",
) -> Tensor:
    """Return the orthonormal Walsh–Hadamard transform of x (..., M), M a power of two.

    x stays as it is, and the result is in `out`, or in fresh memory, never in the workspace.
    Numbers narrower than float32 are transformed in float32 and rounded once. Raises `ValueError`
    where M is no power of two, x isn't real, or `out` doesn't fit.
    """
    _check(x, out)
    if x.dtype not in DTYPES:
        narrow = fwht(x.float(), workspace, kernel=kernel).to(x.dtype)
        return narrow if out is None else out.copy_(narrow)
    size = x.shape[-1]
    rows = x.reshape(math.prod(x.shape[:-1]), size)
    if chosen(kernel, "fwht", x, size):
        found = torch.empty_like(x, memory_format=torch.contiguous_format) if out is None else out
        transform(rows, found.view(rows.shape), workspace or Workspace())
        return found
    found = _transformed(rows, workspace, out).reshape(x.shape)
    return found if out is None or found is out else out.copy_(found)


def _transformed(rows: Tensor, workspace: Workspace | None, out: Tensor | None) -> Tensor:
    """Transform rows (b, M) by products with factors; into `out` where that can be."""
    factors = hadamard_factors(rows.shape[1], rows.dtype, rows.device)
    if not is_plain(rows):
        return chained(rows, factors, lambda *_: None)
    space, last = workspace or Workspace(), len(factors) - 1

    def into(index: int, shape: tuple[int, ...]) -> Tensor | None:
        if index == last:
            return None if out is None else out.view(shape)
        return space.buffer(index % 2, shape, rows.dtype, rows.device)

    return chained(rows, factors, into)


def _check(x: Tensor, out: Tensor | None) -> None:
    size = x.shape[-1] if x.dim() else 0
    if size < 1 or size & (size - 1):
        raise ValueError(
            f"fwht: x of shape {tuple(x.shape)}: its last side is no power of two; pad it to one"
        )
    if not x.is_floating_point():
        raise ValueError(f"fwht: x is {x.dtype}; floating point is needed")
    if out is None:
        return
    if out.shape != x.shape or out.dtype != x.dtype or out.device != x.device:
        raise ValueError(
            f"fwht: out is {tuple(out.shape)}, {out.dtype} on {out.device}; x is"
            f" {tuple(x.shape)}, {x.dtype} on {x.device}"
        )
    if not out.is_contiguous() or out.data_ptr() == x.data_ptr():
        raise ValueError("fwht: out must be contiguous, and other memory than x's")
