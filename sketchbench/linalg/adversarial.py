"""Unit vectors on which sketches that aren't valid fail, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Generator, Tensor

from sketchbench.linalg.factors import padded
from sketchbench.linalg.hadamard import hadamard


def adversarial(size: int, out_size: int) -> Mapping[str, Tensor]:
    """Return the inputs (size,) in float64, for sketches to `out_size`.

    `gaussian` is dense and nothing special; `axis` one coordinate; `pair` and `half-pair` two at a
    distance of D and D/2; `column` a column of the Hadamard matrix of order D in the first block,
    on which Fastfood fails [Theorem C.1 of arXiv 2402.03994]; `rank-1` an outer product, as the
    gradient of a linear layer; `ones`; `layer` dense in one stretch and 0 elsewhere; `ends` the
    first and the last coordinate. An input that doesn't fit into `size` is left out.
    """
    found = {}
    for name, make in _INPUTS.items():
        x = make(size, out_size)
        if x is not None:
            found[name] = x / x.norm()
    return found


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def _at(size: int, *places: int) -> Tensor | None:
    x = torch.zeros(size, dtype=torch.float64)
    if len(set(places)) < len(places) or max(places) >= size:
        return None
    x[list(places)] = 1.0
    return x


def _column(size: int, out_size: int) -> Tensor | None:
    order = padded(out_size)
    if size < order:
        return None
    x = torch.zeros(size, dtype=torch.float64)
    x[:order] = hadamard(order, torch.float64, torch.device("cpu"))[:, 1 % order]
    return x


def _rank_one(size: int, out_size: int) -> Tensor | None:
    rows = max(1, int(size**0.5))
    x = torch.zeros(size, dtype=torch.float64)
    columns = size // rows
    outer = torch.outer(_normal(rows, seed=2), _normal(columns, seed=3))
    x[: rows * columns] = outer.reshape(-1)
    return x


def _layer(size: int, out_size: int) -> Tensor | None:
    x = torch.zeros(size, dtype=torch.float64)
    x[size // 3 : size // 3 + max(1, size // 8)] = _normal(max(1, size // 8), seed=4)
    return x


_INPUTS: Mapping[str, Callable[[int, int], Tensor | None]] = {
    "gaussian": lambda size, out_size: _normal(size, seed=1),
    "axis": lambda size, out_size: _at(size, size // 5),
    "pair": lambda size, out_size: _at(size, size // 5, size // 5 + out_size),
    "half-pair": lambda size, out_size: _at(size, size // 5, size // 5 + out_size // 2),
    "column": _column,
    "rank-1": _rank_one,
    "ones": lambda size, out_size: torch.ones(size, dtype=torch.float64),
    "layer": _layer,
    "ends": lambda size, out_size: _at(size, 0, size - 1) if size > 1 else None,
}
