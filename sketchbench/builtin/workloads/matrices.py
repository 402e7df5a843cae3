"""Matrices of planted spectrum and coherence, and of real features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch

from sketchbench.linalg import hadamard, padded

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from sketchbench import Task

Spectrum = Literal["power", "exponential", "low-rank", "flat"]
Coherence = Literal["incoherent", "coherent", "hadamard"]
NOISE = 1e-3  # the values behind the planted ones of `low-rank`
DEPENDENT = 1e-10  # of the largest: columns that are others' combinations but for this are dropped


def planted_values(spectrum: Spectrum, count: int, planted: int) -> Tensor:
    """Return the singular values (count,) of a spectrum, the largest 1, in double precision."""
    index = torch.arange(1, count + 1, dtype=torch.double)
    match spectrum:
        case "power":
            return 1 / index
        case "exponential":
            return ((1 - index) / 16 * math.log(10)).exp()
        case "low-rank":
            return torch.ones_like(index).masked_fill_(index > planted, NOISE)
        case "flat":
            return torch.ones_like(index)


def stretch(columns: int) -> int:
    """Return on how many rows `hadamard` columns live: a power of two, at least 4 a column."""
    return padded(4 * columns)


def orthonormal(rows: int, columns: int, coherence: Coherence, rng: Generator) -> Tensor:
    """Return orthonormal columns (rows, columns) in double precision.

    Incoherent ones are uniformly random, and no row has much of their mass; coherent ones are
    coordinate axes, so that as many rows have all of it; `hadamard` ones are columns of a Hadamard
    matrix in the first rows, a quarter of a row's mass each, and 0 below.
    """
    match coherence:
        case "coherent":
            axes = torch.randperm(rows, generator=rng)[:columns]
            return torch.zeros(rows, columns, dtype=torch.double).scatter_(0, axes[None], 1.0)
        case "hadamard":
            order = stretch(columns)
            chosen = torch.randperm(order, generator=rng)[:columns]
            dense = hadamard(order, torch.double, torch.device("cpu"))[:, chosen]
            return torch.cat([dense, dense.new_zeros(rows - order, columns)])
        case "incoherent":
            drawn = torch.randn(rows, columns, generator=rng, dtype=torch.double)
            q: Tensor = torch.linalg.qr(drawn)[0]
            return q


def planted_matrix(left: Tensor, values: Tensor, rng: Generator) -> Tensor:
    """Return A (rows, columns) with these left vectors and values, and random right vectors."""
    columns = len(values)
    drawn = torch.randn(columns, columns, generator=rng, dtype=torch.double)
    right: Tensor = torch.linalg.qr(drawn)[0]
    matrix: Tensor = (left * values) @ right.mT
    return matrix


def planted_target(matrix: Tensor, noise: float, rng: Generator) -> Tensor:
    """Return b (rows,) of which the columns of a matrix explain all but a share of the norm.

    `noise` is ‖b − Ax*‖ / ‖Ax*‖; x is Gaussian.
    """
    rows, columns = matrix.shape
    explained: Tensor = matrix @ torch.randn(columns, generator=rng, dtype=torch.double)
    rest = torch.randn(rows, generator=rng, dtype=torch.double)
    basis: Tensor = torch.linalg.qr(matrix)[0]
    rest -= basis @ (basis.mT @ rest)
    target: Tensor = explained + rest * (noise * explained.norm() / rest.norm())
    return target


def features(task: Task, rows: int, rng: Generator) -> tuple[Tensor, Tensor]:
    """Return features A (rows, n) and targets b (rows,) of random training examples, as float64.

    Columns that are combinations of others are dropped, by QR with pivoting. Classes count as
    numbers. Raises `ValueError` where there are too few examples, or targets that are no numbers.
    """
    import scipy.linalg

    data = task.load("train")
    if rows > len(data.inputs):
        raise ValueError(
            f"linear-algebra: {rows} rows are as many examples; task '{task.name}' has "
            f"{len(data.inputs)}"
        )
    if data.targets.ndim != 1:
        raise ValueError(f"linear-algebra: task '{task.name}' has no single target an example")
    chosen = torch.randperm(len(data.inputs), generator=rng)[:rows]
    matrix, target = data.inputs[chosen].flatten(1).double(), data.targets[chosen].double()
    r, kept = scipy.linalg.qr(matrix.numpy(), mode="r", pivoting=True)
    r, kept = torch.from_numpy(r).diagonal().abs(), torch.from_numpy(kept).long()
    return matrix[:, kept[: len(r)][r > DEPENDENT * r[0]].sort().values], target


def kernel(matrix: Tensor) -> Tensor:
    """Return exp(−‖xᵢ − xⱼ‖²/(2h²)) (rows, rows) of rows x, h the median of their distances."""
    distances = torch.cdist(matrix, matrix)
    rows = len(matrix)
    i, j = torch.triu_indices(rows, rows, offset=1)
    return (-0.5 * (distances / distances[i, j].median()).square()).exp()
