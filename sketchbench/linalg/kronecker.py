"""Products with Kronecker products of small matrices, which are never formed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sketchbench.linalg.compiled import is_plain
from sketchbench.linalg.workspace import Workspace

Into = Callable[[int, tuple[int, ...]], Tensor | None]


def apply_kronecker(
    x: Tensor, factors: Sequence[Tensor], workspace: Workspace | None = None
) -> Tensor:
    """Return (F₁ ⊗ F₂ ⊗ …) x for x (..., Π columns): (..., Π rows).

    The adjoint is the product with the transposed factors. What lies between the factors is
    written to the workspace where there is one, unless x is differentiated or mapped over. Raises
    `ValueError` where x doesn't have as many entries as the factors have columns.
    """
    size = math.prod(factor.shape[1] for factor in factors)
    if not x.dim() or x.shape[-1] != size:
        raise ValueError(
            f"kronecker: factors have {size} columns in all; x is of shape {tuple(x.shape)}"
        )
    last = len(factors) - 1

    def into(index: int, shape: tuple[int, ...]) -> Tensor | None:
        if workspace is None or index == last:
            return None
        return workspace.buffer(index % 2, shape, x.dtype, x.device)

    flat = x.reshape(math.prod(x.shape[:-1]), size)
    found = chained(flat, factors, into if is_plain(x) else lambda *_: None)
    return found.reshape(*x.shape[:-1], found.shape[-1])


def chained(x: Tensor, factors: Sequence[Tensor], into: Into) -> Tensor:
    """Return x (b, columns) times one factor after the other: (b, rows).

    The product with factor i is written to `into(i, shape)`, or to fresh memory if that is None.
    """
    batch, left, right = x.shape[0], 1, x.shape[1]
    y = x
    for index, factor in enumerate(factors):
        rows, columns = factor.shape
        right //= columns
        if right == 1:
            out = into(index, (batch * left, rows))
            y = torch.mm(y.reshape(batch * left, columns), factor.mT, out=out)
        else:
            out = into(index, (batch * left, rows, right))
            wide = factor.expand(batch * left, rows, columns)
            y = torch.bmm(wide, y.reshape(batch * left, columns, right), out=out)
        left *= rows
    return y.reshape(batch, left)
