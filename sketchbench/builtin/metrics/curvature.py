"""Scores of curvature spectra: their ends, what a sketch does to them, what outliers hold."""

from __future__ import annotations

import math
from typing import Literal

from sketchbench import Field, Missing, Score
from sketchbench.builtin.workloads.outlying import Looked, LooksAt


class TopEigenvalueError(Score):
    """Mean of |λ̂ − λ|/|λ| over the largest eigenvalues, against Lanczos without the sketch.

    Missing unless that was asked for (`exact`) and has converged: residuals within `settled` of
    each eigenvalue, since its own error would be counted otherwise.
    """

    name = "top_eigenvalue_error"
    consumes = Looked
    unit = "fraction"
    direction = "lower"
    margin = 0.005

    count: int = Field(10, ge=1, description="Eigenvalues compared, the largest ones.")
    settled: float = Field(
        0.01, gt=0, description="Largest residual of the reference, beside its eigenvalue."
    )

    def __call__(self, outcome: Looked) -> float:
        """Return it; raise `Missing` without a reference that has converged."""
        exact = _reference(outcome)
        truth, residuals = exact.top(self.count), exact.residuals.flip(0)[: self.count]
        found = outcome.seen.top(self.count)
        if len(truth) < self.count or len(found) < self.count:
            raise Missing(f"fewer than {self.count} Ritz values")
        worst = (residuals / truth.abs()).max().item()
        if not worst <= self.settled:
            raise Missing(
                f"the reference has not converged: a residual is {worst:.2g} of its eigenvalue; "
                "raise krylov"
            )
        return ((found - truth).abs() / truth.abs()).mean().item()


class LeastEigenvalueError(Score):
    """|λ̂_min − λ_min| / λ_max, against Lanczos without the sketch."""

    name = "least_eigenvalue_error"
    consumes = Looked
    unit = "fraction"
    direction = "lower"
    margin = 0.005

    def __call__(self, outcome: Looked) -> float:
        """Return it; raise `Missing` without a reference or a positive eigenvalue."""
        exact = _reference(outcome)
        apart = (outcome.seen.values[0] - exact.values[0]).abs().item()
        return apart / _positive(exact)


class TopEigenvalue(Score):
    """The largest eigenvalue, as the sketch shows it."""

    name = "top_eigenvalue"
    consumes = Looked
    unit = "1"
    direction = "lower"
    margin = 0.05
    relative = True

    def __call__(self, outcome: Looked) -> float:
        """Return it."""
        return outcome.seen.values[-1].item()


class RNEG(Score):
    """|λ_min| / λ_max: 0 where no eigenvalue is negative. [arXiv 2402.03994, §5.5]

    A sketch moves small eigenvalues, outward by noise of either sign that A has and inward by the
    trace of the other: read it beside `rneg_floor`.
    """

    name = "rneg"
    consumes = Looked
    unit = "fraction"
    direction = "lower"
    margin = 0.01

    def __call__(self, outcome: Looked) -> float:
        """Return it; raise `Missing` without a positive eigenvalue."""
        _positive(outcome.seen)
        return outcome.seen.negative_ratio()


class RNEGFloor(Score):
    """What of `rneg` is the sketch's: the shift of λ_min in units of λ_max, from two sizes.

    A sketch of D moves small eigenvalues by about s/√D; with λ_min at D and at D/k, which has
    √k times the shift, |s|/√D is the difference over √k − 1, whichever way it goes: a positive bulk
    lifts λ_min, and hides it where it is small. 0 without a sketch. Of one draw each, and too large
    where the shift falls faster than 1/√D: 1.5 to 2.7 times in four cases checked.
    """

    name = "rneg_floor"
    consumes = Looked
    unit = "fraction"
    direction = "lower"
    margin = 0.01

    def __call__(self, outcome: Looked) -> float:
        """Return it; raise `Missing` for a sketch of one size only."""
        if outcome.out_size is None:
            return 0.0
        if outcome.smaller is None or outcome.divisor is None:
            raise Missing("the spectrum was taken through one size of sketch; set floor_divisor")
        apart = (outcome.seen.values[0] - outcome.smaller.values[0]).item()
        shift = abs(apart) / (math.sqrt(outcome.divisor) - 1)
        return shift / _positive(outcome.seen)


class Outliers(Score):
    """Number of eigenvalues above the workload's share (`above`) of the largest."""

    name = "outliers"
    consumes = Looked
    unit = "1"
    direction = "lower"
    margin = 0.5

    def __call__(self, outcome: Looked) -> float:
        """Return it."""
        return float(outcome.shares.size)


class ExcessOutliers(Score):
    """Outliers beyond K − 1, what a classifier of K classes is expected to have.

    [Sagun et al. 2017; Papyan 2019]
    """

    name = "excess_outliers"
    consumes = Looked
    unit = "1"
    direction = "lower"
    margin = 0.5

    def __call__(self, outcome: Looked) -> float:
        """Return it, negative for fewer outliers."""
        return float(outcome.shares.size - (outcome.classes - 1))


class OutlierShare(Score):
    """‖Pg‖²/‖g‖²: how much of the gradient lies in the outliers' space; `vector` has its nulls.

    A null says what the space holds of a random vector or of the gradient with its entries
    permuted, in the mean: dimensions over D, whatever g is, if nothing is aligned.
    """

    name = "outlier_share"
    consumes = Looked
    unit = "fraction"
    direction = "lower"
    margin = 0.01

    vector: Literal["gradient", "random", "permuted"] = Field(
        "gradient", description="The gradient, a random vector, or the permuted gradient."
    )

    def __call__(self, outcome: Looked) -> float:
        """Return it."""
        shares = outcome.shares
        return {
            "gradient": shares.gradient,
            "random": shares.random,
            "permuted": shares.permuted,
        }[self.vector]


class BasisBytes(Score):
    """Bytes of Lanczos' basis: m vectors of D entries through a sketch, of N without."""

    name = "basis_bytes"
    consumes = Looked
    unit = "bytes"
    direction = "lower"
    margin = 0.02
    relative = True

    def __call__(self, outcome: Looked) -> float:
        """Return it."""
        return float(outcome.basis_bytes)


class CurvatureTrace(Score):
    """Trace of the curvature by Hutch++; a sketch leaves it unbiased."""

    name = "curvature_trace"
    consumes = Looked
    unit = "1"
    direction = "lower"
    margin = 0.05
    relative = True

    def __call__(self, outcome: Looked) -> float:
        """Return it; raise `Missing` where it wasn't asked for."""
        if outcome.trace is None:
            raise Missing("the trace wasn't asked for; set trace_products")
        return outcome.trace.value


class NegativeMass(Score):
    """Σ|λ| over negative eigenvalues as a share of Σ|λ| over all, by stochastic Lanczos.

    ½ is what a symmetric spectrum has. A sketch of a matrix that is mostly positive shows less.
    """

    name = "negative_mass"
    consumes = Looked
    unit = "fraction"
    direction = "lower"
    margin = 0.01

    def __call__(self, outcome: Looked) -> float:
        """Return it; raise `Missing` where the density wasn't asked for, or all is 0."""
        if outcome.density is None:
            raise Missing("the density wasn't asked for; set probes")
        weighed = outcome.density.weights * outcome.density.nodes
        whole = weighed.abs().sum().item()
        if not whole:
            raise Missing("every eigenvalue is 0")
        return (weighed.clamp(max=0).abs().sum().item()) / whole


def _reference(outcome: Looked) -> LooksAt:
    if outcome.exact is None:
        raise Missing("the spectrum without a sketch wasn't taken; set exact")
    return outcome.exact


def _positive(looked: LooksAt) -> float:
    """Return λ_max; raise `Missing` where it isn't positive."""
    most = looked.values[-1].item()
    if not most > 0:
        raise Missing(f"the largest eigenvalue is {most:g}: there is no ratio to it")
    return most
