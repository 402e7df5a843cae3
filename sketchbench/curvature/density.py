"""The whole spectrum of a symmetric matrix from a few of its products: density and trace."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from sketchbench.curvature.lanczos import lanczos, random_vector
from sketchbench.curvature.operators import Product


@dataclass(frozen=True)
class Density:
    """The distribution of a matrix's eigenvalues, estimated: nodes and weights (probes, m).

    A probe's weights sum to 1; `size` is the number of eigenvalues. Float64 on the CPU.
    """

    nodes: Tensor
    weights: Tensor
    size: int

    def between(self, low: float, high: float) -> float:
        """Return the share of eigenvalues in low ≤ λ < high."""
        inside = (self.nodes >= low) & (self.nodes < high)
        return (self.weights * inside).sum(1).mean().item()

    def trace(self) -> Estimate:
        """Return the trace: the mean over probes of size·Σ wθ, with its standard error."""
        return _mean(self.size * (self.weights * self.nodes).sum(1))

    def smooth(self, points: Tensor, width: float) -> Tensor:
        """Return the density at points (k,), each node a Gaussian of standard deviation `width`."""
        apart = (points.double()[:, None, None] - self.nodes) / width
        bells = torch.exp(-(apart**2) / 2) / (width * math.sqrt(2 * math.pi))
        return (bells * self.weights).sum(-1).mean(-1)


@dataclass(frozen=True)
class Estimate:
    """A mean of independent draws and its standard error, NaN for a single draw."""

    value: float
    error: float


def density(product: Product, like: Tensor, steps: int, probes: int, rng: Generator) -> Density:
    """Estimate the spectral density of a matrix by Gauss quadrature in `probes` Krylov spaces.

    `like` (N,) tells size, precision and device. The moments Σλᵏ/N of k < 2·`steps` are unbiased.
    [Ubaru, Chen & Saad 2017]
    """
    found = []
    for _ in range(probes):
        first = random_vector(len(like), rng, like.dtype, like.device)
        found.append(lanczos(product, first, steps, rng))
    nodes = torch.stack([krylov.values for krylov in found])
    weights = torch.stack([krylov.weights for krylov in found])
    return Density(nodes, weights, len(like))


def trace(product: Product, like: Tensor, products: int, rng: Generator) -> Estimate:
    """Estimate the trace of a symmetric matrix from `products` of its products: Hutch++.

    A third finds a basis of the leading range, a third has its part of the trace exactly, the
    rest estimates what is orthogonal to it by random signs. The standard error is of that part.
    Once 3·N products or more are allowed, the basis is the whole space and the trace exact.
    [Meyer, Musco, Musco & Woodruff 2021, Algorithm 1]
    """
    if products < 6:
        raise ValueError(f"trace: {products} products are too few; 6 are 2 for each of 3 parts")
    size = len(like)
    rank = min(products // 3, size)
    signs = _signs(size, rank, rng, like)
    basis = torch.linalg.qr(_images(product, signs)).Q
    leading = (basis * _images(product, basis)).sum().item()
    if rank == size:
        return Estimate(leading, 0.0)
    probes = _signs(size, products - 2 * rank, rng, like)
    probes = probes - basis @ (basis.T @ probes)
    rest = _mean((probes * _images(product, probes)).sum(0).double().cpu())
    return Estimate(leading + rest.value, rest.error)


def _signs(size: int, count: int, rng: Generator, like: Tensor) -> Tensor:
    drawn = torch.randint(2, (size, count), generator=rng, dtype=torch.int8)
    return (2 * drawn - 1).to(like)


def _images(product: Product, columns: Tensor) -> Tensor:
    return torch.stack([product(column) for column in columns.T.contiguous()], dim=1)


def _mean(draws: Tensor) -> Estimate:
    error = (draws.std() / math.sqrt(len(draws))).item() if len(draws) > 1 else math.nan
    return Estimate(draws.mean().item(), error)
