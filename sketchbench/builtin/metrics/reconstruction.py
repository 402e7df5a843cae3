"""Scores of a reconstructed matrix, and how fast a sketch with memory follows a change."""

from __future__ import annotations

import math
from typing import Literal

from sketchbench import Derived, Field, Measured, Missing, Reconstructed, Score


class TailRatio(Score):
    """Error of the reconstruction over τ_{r+1}, the least that any matrix of rank r has.

    Two-sided sketches with k = 2r + 1 and s = 2k + 1 have an RMS of at most √6 = 2.449 [Tropp et
    al. 2019, Theorem 5.1]; with s = k there is no bound, and no finite RMS to converge to. A value
    below 1 means that more than r columns were used: k of them.
    """

    name = "tail_ratio"
    consumes = Reconstructed
    unit = "1"
    direction = "lower"
    margin = 0.05
    relative = True

    over: Literal["rms", "median", "max"] = Field(
        "rms", description="What is taken of the errors of all draws."
    )

    def __call__(self, outcome: Reconstructed) -> float:
        """Return the ratio, in double precision.

        Raises `Missing` where the matrix has no tail, or an error isn't finite.
        """
        if not outcome.tail > 0:
            raise Missing(f"relative to the matrix's tail, which is {outcome.tail:g}")
        errors = outcome.errors.double()
        match self.over:
            case "rms":
                error = errors.square().mean().sqrt()
            case "median":
                error = errors.quantile(0.5)
            case "max":
                error = errors.max()
        ratio: float = error.item() / outcome.tail
        if not math.isfinite(ratio):
            raise Missing(f"the error of the reconstruction is {error.item():g}")
        return ratio


class ReconstructionError(Score):
    """Relative error of the reconstruction: the RMS over draws of ‖A − Â‖ / ‖A‖."""

    name = "reconstruction_error"
    consumes = Reconstructed
    unit = "fraction"
    direction = "lower"
    margin = 0.05
    relative = True

    def __call__(self, outcome: Reconstructed) -> float:
        """Return the relative error, in double precision."""
        return outcome.errors.double().square().mean().sqrt().item() / outcome.norm


class SettlingSteps(Derived):
    """Steps after a change until the reconstruction error stays near its final value.

    Near is within a tenth of the final value or of the way to it from the first step after the
    change, whichever is more. A sketch without memory needs one step, an EMA as many as its
    window. Only as good as the last step is final: give it some windows.
    """

    name = "settling_steps"
    unit = "steps"
    direction = "lower"
    margin = 0.5

    after: int = Field(0, ge=0, description="The step of the change: the workload's change_after.")

    @property
    def needs(self) -> tuple[str, ...]:
        """The error whose curve is read."""
        return ("reconstruction_error",)

    def derive(
        self, cell: Measured, baseline: Measured | None = None, control: Measured | None = None
    ) -> float | None:
        """Return the steps from the change to the first of the steps that are all near."""
        curve = [(at, value) for at, value, _ in cell.curve(self.needs[0]) if at > self.after]
        if not curve:
            raise Missing(f"no step was measured after step {self.after}")
        first, final = curve[0][1], curve[-1][1]
        slack = max(abs(final), abs(first - final)) / 10
        far = [at for at, value in curve if abs(value - final) > slack]
        return 1 + (far[-1] - self.after if far else 0)
