"""Lanczos' method with full reorthogonalisation: the ends of a symmetric matrix's spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from sketchbench.curvature.operators import Product


@dataclass(frozen=True)
class Krylov:
    """An orthonormal basis Q (m, N) in which a matrix is tridiagonal, QAQᵀ = T.

    `diagonal` (m,), `beside` (m − 1,) and the residual `beyond` are of T, in float64 on the CPU.
    """

    basis: Tensor
    diagonal: Tensor
    beside: Tensor
    beyond: float

    @property
    def basis_bytes(self) -> int:
        """The bytes that the basis holds: what a sketch makes smaller."""
        return self.basis.numel() * self.basis.element_size()

    @property
    def tridiagonal(self) -> Tensor:
        """T (m, m)."""
        return torch.diag(self.diagonal) + torch.diag(self.beside, 1) + torch.diag(self.beside, -1)

    @cached_property
    def _system(self) -> tuple[Tensor, Tensor]:
        values, vectors = torch.linalg.eigh(self.tridiagonal)
        return values, vectors

    @property
    def values(self) -> Tensor:
        """The Ritz values (m,), ascending."""
        return self._system[0]

    @property
    def weights(self) -> Tensor:
        """The squared first entries (m,) of T's eigenvectors: Gauss quadrature's; they sum to 1."""
        return self._system[1][0] ** 2

    @property
    def residuals(self) -> Tensor:
        """‖Ay − θy‖ of each Ritz pair, (m,): within it of θ lies an eigenvalue."""
        return self.beyond * self._system[1][-1].abs()

    def vectors(self, chosen: Tensor) -> Tensor:
        """Return the Ritz vectors (k, N) at the positions or of the mask `chosen` in `values`."""
        weights = self._system[1][:, chosen].T
        return weights.to(self.basis) @ self.basis


def lanczos(product: Product, start: Tensor, steps: int, rng: Generator) -> Krylov:
    """Return the Krylov space of a symmetric matrix from `start` (N,), of at most `steps` vectors.

    Each vector is made orthogonal to all earlier ones, twice: without it, large eigenvalues return
    as ghosts. Where the space is exhausted early (the matrix maps it into itself), it goes on
    from a new direction of `rng`, with a zero in T, until it has `steps` vectors or is all of the
    space: so repeated eigenvalues are found as well. Raises `ValueError` for a zero start, fewer
    than one step, or a product that is not finite. [Golub & Van Loan 2013, §10.3]
    """
    size = len(start)
    steps = min(steps, size)
    length = start.norm()
    if steps < 1 or not torch.isfinite(length) or not length > 0:
        raise ValueError(
            f"lanczos: {steps} steps from a vector of norm {length.item():g}; it takes at least "
            "one, from a finite one that isn't zero"
        )
    basis = start.new_empty(steps, size)
    basis[0] = start / length
    diagonal: list[float] = []
    beside: list[float] = []
    scale = 0.0
    for step in range(steps):
        image = product(basis[step])
        magnitude = image.norm().item()
        diagonal.append(torch.dot(basis[step], image).item())
        rest = _orthogonal(image, basis[: step + 1])
        beside.append(rest.norm().item())
        if not torch.isfinite(torch.tensor([*diagonal[-1:], *beside[-1:]])).all():
            raise ValueError(f"lanczos: the product of step {step + 1} is not finite")
        scale = max(scale, magnitude)
        if beside[-1] <= _noise(basis) * scale:  # only rounding is left
            beside[-1] = 0.0
            if step + 1 < steps:
                rest = _fresh(basis[: step + 1], rng)
        if step + 1 < steps:
            basis[step + 1] = rest / rest.norm()
    return Krylov(
        basis,
        torch.tensor(diagonal, dtype=torch.float64),
        torch.tensor(beside[:-1], dtype=torch.float64),
        beside[-1],
    )


def random_vector(size: int, rng: Generator, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Draw a Gaussian vector (size,) on the CPU, the same for every device and precision."""
    return torch.randn(size, generator=rng, dtype=torch.float64).to(device=device, dtype=dtype)


def _orthogonal(vector: Tensor, basis: Tensor) -> Tensor:
    for _ in range(2):  # twice is enough [Parlett 1998, §6.9]
        vector = vector - basis.T @ (basis @ vector)
    return vector


def _fresh(basis: Tensor, rng: Generator) -> Tensor:
    """Return a vector (N,) orthogonal to a basis that doesn't span the space."""
    found = random_vector(basis.shape[1], rng, basis.dtype, basis.device)
    return _orthogonal(found, basis)


def _noise(basis: Tensor) -> float:
    """Return the relative rounding error of one product, roughly."""
    return float(torch.finfo(basis.dtype).eps * basis.shape[1] ** 0.5)
