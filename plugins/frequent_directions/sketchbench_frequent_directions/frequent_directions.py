"""Frequent Directions as a covariance sketch. [Ghashami et al. 2016; Feinberg et al. 2023, §3]"""

from __future__ import annotations

from typing import Literal

import torch

from sketchbench import CovarianceSketch, Field
from sketchbench_frequent_directions.estimate import FrequentDirectionsEstimate
from sketchbench_frequent_directions.solvers.table import CERTIFIED, SolverName


class FrequentDirections(CovarianceSketch):
    """Keep k directions of C, deflated, and the mass that escaped them on the diagonal."""

    name = "frequent-directions"
    rank: int = Field(64, ge=1, description="k, directions kept; ℓ = k + 1 in the paper.")
    beta2: float = Field(1.0, gt=0, le=1, description="β₂: an update makes of C β₂C + Σaaᵀ.")
    tail_decay: Literal["paper", "tearfree"] = Field(
        "paper", description="Decay of the escaped mass: β₂, or √β₂ as in the authors' code."
    )
    solver: SolverName = Field(
        "gram", description="How the leading directions are found; all but lobpcg keep the bounds."
    )
    buffer: int | None = Field(
        None,
        ge=1,
        description="Rows gathered before they are absorbed; None for min(k, d), 1 for none.",
    )

    @property
    def decay(self) -> float:
        """β₂."""
        return self.beta2

    @property
    def sandwich(self) -> bool:
        """To rounding, for solvers that certify their tail; one that decays less is above.

        The rounding of every update adds up, over the 1/(1 − β₂) that count or the T of a sum: to
        some 4ε/(1 − β₂) of ‖C‖ at the most. Measured in float32, of streams that the sketch holds
        whole: 3.5e-5 at β₂ = .999, 8.5e-5 at .9999. Float64 rows make a sketch of 1e-9 of that.
        """
        return self.solver in CERTIFIED

    def build(self, size: int, device: torch.device) -> FrequentDirectionsEstimate:
        """Start from C = 0, in torch's default precision."""
        return FrequentDirectionsEstimate(
            size,
            self.rank,
            beta2=self.beta2,
            tail_decay=self.beta2 if self.tail_decay == "paper" else self.beta2**0.5,
            solver=self.solver,
            buffer=self.buffer or min(self.rank, size),
            device=device,
        )
