"""Whether transforms run compiled, and the operations through which torch sees them if they do.

As operations of torch they are seen by whatever watches torch's: predictions on fake tensors,
meters of memory, counts of operations. Numba is an extra, imported when it is first needed.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.library import Library, register_fake
from torch.utils.flop_counter import register_flop_formula

from sketchbench.linalg.workspace import Workspace

Kernel = Literal["auto", "torch", "compiled"]
PAYS_FROM = 2**12  # entries of a transform; below it the calls cost more than the work
SCRATCH = 2**16  # entries of memory that transforms beyond `WHOLE` go by: `BLOCK` of the kernels
WHOLE = 2**18
DTYPES = (torch.float32, torch.float64)

library = Library("sketchbench", "FRAGMENT")
library.define("fwht(Tensor x, Tensor(a!) scratch, Tensor(b!) out) -> ()")
library.define(
    "block_fold(Tensor x, Tensor signs, Tensor gaussians, Tensor order, int start,"
    " Tensor(a!) buffer, Tensor(b!) out) -> ()"
)
library.define(
    "block_unfold(Tensor y, Tensor signs, Tensor gaussians, Tensor order, int start,"
    " Tensor(a!) buffer, Tensor(b!) out) -> ()"
)


class Compiled(NamedTuple):
    """Whether kernels are compiled here; with what, or why not."""

    used: bool
    reason: str


@cache
def compiled() -> Compiled:
    """Return whether transforms on a CPU run compiled here; the first call imports Numba."""
    try:
        numba = import_module("numba")
        kernels = _kernels()
    except ImportError as error:
        return Compiled(False, f"{error}; pip install 'sketchbench[compiled]' brings Numba")
    except RuntimeError as error:  # no folder for what it compiles
        return Compiled(False, f"{error}; NUMBA_CACHE_DIR can name a folder")
    return Compiled(True, f"Numba {numba.__version__}, vectors of {kernels.WIDTH} bytes")


def chosen(kernel: Kernel, where: str, x: Tensor, size: int) -> bool:
    """Return whether transforms of `size` entries of x are to run compiled.

    Raises `ValueError` where they must, and can't.
    """
    if kernel == "torch":
        return False
    if kernel not in ("auto", "compiled"):
        known = "auto, torch, compiled"
        raise ValueError(f"{where}: no kernel is called {kernel!r}; known are {known}")
    if kernel == "auto" and size < PAYS_FROM:
        return False
    trouble = None
    if x.device.type != "cpu":
        trouble = f"x is on {x.device}"
    elif x.dtype not in DTYPES:
        trouble = f"x is {x.dtype}"
    elif not is_plain(x):
        trouble = "x is differentiated or mapped; `torch` kernels can be"
    elif not compiled().used:
        trouble = compiled().reason
    if trouble and kernel == "compiled":
        raise ValueError(f"{where}: the compiled kernel can't be used: {trouble}")
    return trouble is None


def is_plain(x: Tensor) -> bool:
    """Return whether nothing differentiates or maps over x, so that its memory may be written."""
    if x.requires_grad and torch.is_grad_enabled():
        return False
    if torch._C._functorch.is_functorch_wrapped_tensor(x):
        return False
    return forward_ad.unpack_dual(x).tangent is None


def transform(rows: Tensor, out: Tensor, workspace: Workspace) -> None:
    """Write the compiled transform of rows (b, M) to out, which is contiguous."""
    scratch = workspace.buffer(1, (SCRATCH if rows.shape[1] > WHOLE else 0,), out.dtype, out.device)
    if rows.numel():
        torch.ops.sketchbench.fwht(packed(rows), scratch, out)


def packed(rows: Tensor) -> Tensor:
    """Return rows (b, n) with their columns side by side: themselves, or a copy."""
    return rows if rows.stride(1) == 1 or rows.shape[1] == 1 else rows.contiguous()


@cache
def _kernels() -> Any:
    return import_module("sketchbench.linalg.kernels")


def _flat(rows: Tensor) -> tuple[Any, int]:
    """Return the memory of rows (b, n) with columns side by side, and their distance in it."""
    count, size = rows.shape
    stride = rows.stride(0) if count > 1 else size
    return rows.detach().as_strided(((count - 1) * stride + size,), (1,)).numpy(), stride


def _scale(memory: Any, size: int) -> Any:
    return memory.dtype.type(size**-0.5)  # a number of that width: kernels have no other


@torch.library.impl(library, "fwht", "CPU")
def _fwht(x: Tensor, scratch: Tensor, out: Tensor) -> None:
    size = x.shape[1]
    source, apart = _flat(x)
    target, _ = _flat(out)
    scale, spare = _scale(target, size), scratch.numpy()
    for row in range(len(x)):
        _kernels().transform(source, row * apart, target, row * size, size, scale, spare)


@torch.library.impl(library, "block_fold", "CPU")
def _block_fold(
    x: Tensor,
    signs: Tensor,
    gaussians: Tensor,
    order: Tensor,
    start: int,
    buffer: Tensor,
    out: Tensor,
) -> None:
    count, out_size = out.shape
    sums, size = _flat(out)[0], gaussians.shape[1]
    drawn = (signs.numpy(), gaussians.reshape(-1).numpy(), size, order.numpy())
    into = (sums, out_size, count, _scale(sums, size), buffer.numpy())
    _kernels().fold(*_flat(x), start, *drawn, *into)


@torch.library.impl(library, "block_unfold", "CPU")
def _block_unfold(
    y: Tensor,
    signs: Tensor,
    gaussians: Tensor,
    order: Tensor,
    start: int,
    buffer: Tensor,
    out: Tensor,
) -> None:
    count, out_size = y.shape
    columns, size = _flat(out)[0], gaussians.shape[1]
    drawn = (signs.numpy(), gaussians.reshape(-1).numpy(), size, order.numpy())
    into = (columns, _scale(columns, size), buffer.numpy())
    _kernels().unfold(*_flat(y), out_size, count, start, *drawn, *into)


for _name in ("fwht", "block_fold", "block_unfold"):
    register_fake(f"sketchbench::{_name}", lambda *_: None, lib=library)


@register_flop_formula(torch.ops.sketchbench.fwht)
def _fwht_flops(x_shape: Any, *_: Any, **__: Any) -> int:
    """Count N log₂ N additions a vector."""
    count, size = x_shape
    return int(count * size * (size.bit_length() - 1))


@register_flop_formula(torch.ops.sketchbench.block_fold)
def _block_fold_flops(x_shape: Any, _: Any, drawn_shape: Any, *__: Any, **___: Any) -> int:
    """Count the transforms, and the additions of the fold."""
    blocks, size = drawn_shape
    return int(x_shape[0] * blocks * size * size.bit_length())


@register_flop_formula(torch.ops.sketchbench.block_unfold)
def _block_unfold_flops(y_shape: Any, _: Any, drawn_shape: Any, *__: Any, **___: Any) -> int:
    """Count the transforms."""
    blocks, size = drawn_shape
    return int(y_shape[0] * blocks * size * (size.bit_length() - 1))
