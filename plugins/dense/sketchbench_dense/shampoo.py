"""Shampoo: a dense factor an axis, whole or in blocks. [Gupta et al. 2018; Anil et al. 2020]"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from pydantic import model_validator
from torch import Tensor, nn

from sketchbench import Field, Optimizer
from sketchbench.preconditioning import GraftName, Kept, Kronecker, Skipped


class Shampoo(Optimizer):
    """Precondition each axis by its factor: L^(−1/4) G R^(−1/4) of a gradient G (m, n).

    L = Σ β₂^(T−t) GGᵀ and R = Σ β₂^(T−t) GᵀG, sums that aren't normalised by 1 − β₂; see
    `sketchbench.preconditioning` for tensors, grafts and the rest. Vectors and numbers take the
    graft alone. Differs from the papers: 1. powers are by eigendecomposition, not by Newton's
    iteration, and in float64, since at ε = 1e-7 the ridge is as small as float32's rounding;
    2. factors start from 0, not from εI, and the ridge is relative to the largest eigenvalue;
    3. vectors have no factor.

    Our own, since no library fits: pytorch_optimizer 4.1's Shampoo sums without β₂, has neither
    blocks nor grafts, and writes to `.grad`; its ScalableShampoo keeps objects in its state, which
    then doesn't load with `weights_only`.
    """

    name = "shampoo"
    lr: float = Field(1e-3, ge=0, description="η, step size; schedules multiply it.")
    beta2: float = Field(0.999, gt=0, le=1, description="β₂: an update makes of C β₂C + GGᵀ.")
    update_every: int = Field(1, ge=1, description="Steps from one renewal of roots to the next.")
    skipped: Skipped = Field(
        "observed",
        description="Gradients between renewals: all go into the factors (observed), or are passed "
        "over (exact), or averaged (a copy of the weights).",
    )
    epsilon: float = Field(
        1e-7, ge=0, description="Ridge of a factor, relative to its largest eigenvalue."
    )
    precision: Literal["float64", "float32"] = Field(
        "float64", description="Of eigendecompositions; float32 takes half the time."
    )
    graft: GraftName = Field("adam", description="Method whose step gives updates their length.")
    graft_beta2: float = Field(0.999, ge=0, lt=1, description="Decay of the graft's squares.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Weight of the previous step.")
    nesterov: bool = Field(True, description="Look ahead along the momentum.")
    weight_decay: float = Field(0.0, ge=0, description="λ: weights shrink by 1 − ηλ a step.")
    start_step: int = Field(0, ge=0, description="First steps that take the graft alone.")
    merge_dims: int = Field(
        1024, ge=0, description="Neighbouring dimensions become one up to this size; two remain."
    )
    block_size: int | None = Field(
        None, ge=1, description="Largest axis of a block; null: unblocked."
    )
    max_dim: int | None = Field(
        8192, ge=1, description="Tensors with a larger axis (of a block) take the graft alone."
    )
    nonfinite: Literal["raise", "skip"] = Field(
        "raise", description="At a gradient that isn't finite: raise, or skip its parameter."
    )

    @model_validator(mode="after")
    def _has_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("optimizer 'shampoo': nesterov needs a momentum above 0")
        return self

    @property
    def period(self) -> int:
        """The steps from one renewal of the roots to the next."""
        return self.update_every

    def build(self, params: Iterable[nn.Parameter]) -> Kronecker:
        """Return the optimizer; its factors are `DenseAxis`."""
        axis = DenseAxis(self.beta2, self.epsilon, self.precision)
        named = type(self).model_fields.keys() - {"beta2", "epsilon", "precision"}
        return Kronecker(params, axis, **{name: getattr(self, name) for name in named})

    def state_bytes(self, params: Sequence[nn.Parameter]) -> Mapping[str, int]:
        """Return what factors and roots take, the graft, the momentum and the step counters."""
        return self.build(params).declared_bytes()


@dataclass(frozen=True)
class DenseAxis:
    """A factor C kept whole, beside its root (C + e·I)^exponent, e = epsilon·λ₁."""

    beta2: float
    epsilon: float
    precision: Literal["float64", "float32"] = "float64"  # of the root, not of what is kept

    parts: ClassVar[Mapping[str, str]] = {"factor": "preconditioner", "root": "preconditioner"}

    def empty(
        self,
        batch: int,
        sizes: tuple[int, ...],
        axis: int,
        *,
        device: torch.device,
        dtype: torch.dtype,
    ) -> dict[str, Tensor]:
        """Return C = 0 (batch, d, d) and its root."""
        shape = (batch, sizes[axis], sizes[axis])
        return {name: torch.zeros(shape, device=device, dtype=dtype) for name in self.parts}

    def absorb(self, kept: Kept, increment: Tensor) -> Kept:
        """Return β₂C + MMᵀ."""
        return {"factor": torch.baddbmm(kept["factor"], increment, increment.mT, beta=self.beta2)}

    def refresh(self, kept: Kept, exponent: float) -> Kept:
        """Return the root."""
        factor = kept["factor"]
        wide = torch.promote_types(factor.dtype, getattr(torch, self.precision))
        try:
            root = _root(factor.to(wide), exponent, self.epsilon)
        except torch.linalg.LinAlgError:  # float32 doesn't converge on some near-singular factors
            root = _root(factor.double(), exponent, self.epsilon)
        return {"root": root.to(factor.dtype)}

    def apply(self, kept: Kept, x: Tensor, exponent: float) -> Tensor:
        """Return the root's product with x (B, d, n), in 2d²n operations."""
        return kept["root"] @ x


def _root(factor: Tensor, exponent: float, epsilon: float) -> Tensor:
    """Return (C + ε·λ₁·I)^exponent (B, d, d), 0 of C = 0; eigenvalues below 0 count as 0."""
    values, vectors = torch.linalg.eigh(factor)
    values = values.clamp_min(0)
    values = values + epsilon * values[..., -1:]
    powers = torch.where(values > 0, values.pow(exponent), 0)
    return (vectors * powers.unsqueeze(-2)) @ vectors.mT
