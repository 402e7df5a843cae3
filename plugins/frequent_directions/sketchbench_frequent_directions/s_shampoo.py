"""S-Shampoo: Shampoo whose factors are sketches. [Feinberg et al. 2023, Alg. 3 and §4.3]"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import model_validator
from torch import nn

from sketchbench import Field, Optimizer
from sketchbench.preconditioning import GraftName, Kronecker, layout
from sketchbench_frequent_directions.sketched_axis import SketchedAxis, Tail, TailFloor
from sketchbench_frequent_directions.solvers.table import SOLVERS, SolverName

Rank = Annotated[int, Field(ge=1)]


class SShampoo(Optimizer):
    """Precondition each axis by a sketch of its factor: (m + n)k numbers of a matrix, not m² + n².

    A gradient G (m, n) is stepped along L^(−1/4) G R^(−1/4), with L a sketch of Σ β₂^(T−t) GGᵀ and
    R one of Σ β₂^(T−t) GᵀG; see `sketchbench.preconditioning` for tensors, grafts and the rest.
    Vectors and numbers take the graft alone. Differs from the paper: 1. rank k is ℓ − 1 there; 2.
    while a sketch isn't full, what it hasn't seen isn't projected out (`tail_floor`); 3. the
    default graft is corrected for starting from 0, where the authors' RMSProp isn't; 4. small
    dimensions are merged as long as two are left. Against `tearfree/sketchy.py`: blocks are
    optional, and there is no limit to an axis's size.
    """

    name = "s-shampoo"
    lr: float = Field(1e-3, ge=0, description="η, step size; schedules multiply it.")
    rank: Rank | tuple[Rank, ...] = Field(
        64, description="k, directions kept of every axis, or of each one in turn."
    )
    beta2: float = Field(0.999, gt=0, le=1, description="β₂: an update makes of C β₂C + GGᵀ.")
    tail_decay: Literal["paper", "tearfree"] = Field(
        "paper", description="Decay of the escaped mass: β₂, or √β₂ as in the authors' code."
    )
    solver: SolverName = Field("gram", description="Algorithm of a sketch's update.")
    update_every: int = Field(1, ge=1, description="Steps from one update of sketches to the next.")
    skipped: Literal["exact", "averaged"] = Field(
        "exact",
        description="Gradients between updates: passed over, or averaged (a copy of the weights).",
    )
    tail: Tail = Field(
        "dynamic", description="What lies beside a sketch: its escaped mass, `delta`, or nothing."
    )
    delta: float = Field(0.0, ge=0, description="δ, the constant that tail `fixed` puts there.")
    tail_floor: TailFloor = Field(
        "smallest",
        description="While nothing has escaped, unseen directions count as the weakest one seen, "
        "or are projected out (none).",
    )
    epsilon: float = Field(
        1e-7, ge=0, description="Ridge of a factor, relative to its largest eigenvalue."
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
    block_size: int | None = Field(None, ge=1, description="Largest axis of a block; null: none.")
    max_dim: int | None = Field(
        None, ge=1, description="Tensors with a larger axis (of a block) take the graft alone."
    )
    nonfinite: Literal["raise", "skip"] = Field(
        "raise", description="At a gradient that isn't finite: raise, or skip its parameter."
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if (self.tail == "fixed") != (self.delta > 0):
            raise ValueError(
                "optimizer 's-shampoo': tail 'fixed' and a delta above 0 go together; got tail "
                f"'{self.tail}' with delta {self.delta:g}"
            )
        if self.nesterov and not self.momentum:
            raise ValueError("optimizer 's-shampoo': nesterov needs a momentum above 0")
        return self

    @property
    def period(self) -> int:
        """The steps from one update of the sketches to the next."""
        return self.update_every

    def build(self, params: Iterable[nn.Parameter]) -> Kronecker:
        """Return the optimizer; its factors are `SketchedAxis`."""
        axis = SketchedAxis(
            rank=self.rank,
            beta2=self.beta2,
            tail_decay=self.beta2 if self.tail_decay == "paper" else self.beta2**0.5,
            solver=SOLVERS[self.solver],
            epsilon=self.epsilon,
            tail=self.tail,
            delta=self.delta,
            tail_floor=self.tail_floor,
        )
        options = {name: getattr(self, name) for name in _OPTIONS}
        return Kronecker(params, axis, **options)

    def state_bytes(self, params: Sequence[nn.Parameter]) -> Mapping[str, int]:
        """Return what the sketches take, the graft, the momentum and the step counters."""
        return self.build(params).declared_bytes()

    def break_even(self, shape: tuple[int, ...]) -> int | None:
        """Return the largest rank whose sketches take no more than Adam's second moment.

        About mn/(m + n) of a matrix (m, n); a sketch of d has (d + 1)k + 1 numbers. None of a
        shape that isn't sketched, or whose full factors take less: three axes or more can.
        Gradients that are `averaged` take that room themselves.
        """
        tiles = layout(shape, self.merge_dims, self.block_size, self.max_dim).tiles
        if not tiles:
            return None
        averaged = self.skipped == "averaged" and self.update_every > 1
        room = 0 if averaged else math.prod(shape)

        def taken(rank: int) -> int:
            return sum(
                tile.blocks * ((size + 1) * min(rank, size) + 1)
                for tile in tiles
                for size in tile.sizes
            )

        if taken(math.prod(shape)) <= room:
            return None
        rank = 0
        while taken(rank + 1) <= room:
            rank += 1
        return rank


_OPTIONS = (
    "lr",
    "update_every",
    "skipped",
    "start_step",
    "graft",
    "graft_beta2",
    "momentum",
    "nesterov",
    "weight_decay",
    "merge_dims",
    "block_size",
    "max_dim",
    "nonfinite",
)
