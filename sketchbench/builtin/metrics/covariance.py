"""Scores of covariance sketches: their error, their two bounds, and the mass that escaped."""

from __future__ import annotations

from sketchbench import Escaped, Missing, Score
from sketchbench.builtin.workloads.stream import Estimated


class _CovarianceScore(Score):
    """Judges a sketch against the exact covariance."""

    consumes = Estimated
    unit = "fraction"
    direction = "lower"
    margin = 0.05
    relative = True


class CovarianceError(_CovarianceScore):
    """Spectral error of the whole estimate, its tail included: ‖C − dense()‖₂ / ‖C‖₂."""

    name = "covariance_error"

    def __call__(self, outcome: Estimated) -> float:
        """Return the relative error, in double precision."""
        return float(outcome.excess.abs().max()) / _norm(outcome)


class LowerViolation(_CovarianceScore):
    """How far `dense() − tail·I ⪯ C` is off: the largest eigenvalue above it, over ‖C‖₂.

    0 where the bound is kept, to rounding of the sketch's precision.
    """

    name = "lower_violation"
    margin = 1e-4
    relative = False

    def __call__(self, outcome: Estimated) -> float:
        """Return the violation, 0 or more."""
        return float((outcome.excess[-1] - outcome.tail).clamp_min(0)) / _norm(outcome)


class UpperViolation(_CovarianceScore):
    """How far `C ⪯ dense()` is off: the largest eigenvalue of C − dense(), over ‖C‖₂.

    0 where the bound is kept, to rounding of the sketch's precision.
    """

    name = "upper_violation"
    margin = 1e-4
    relative = False

    def __call__(self, outcome: Estimated) -> float:
        """Return the violation, 0 or more."""
        return float((-outcome.excess[0]).clamp_min(0)) / _norm(outcome)


class EscapedMass(_CovarianceScore):
    """ρ, the mass that the sketch let go and holds on its diagonal, in the unit of C."""

    name = "escaped_mass"
    unit = "1"

    def __call__(self, outcome: Estimated) -> float:
        """Return ρ."""
        return outcome.tail


class EscapedOverBound(_CovarianceScore):
    """ρ over its bound min over k < ℓ of Σ_{i>k} λᵢ(C) / (ℓ − k). [Feinberg et al. 2023, Lemma 1]

    ℓ is one more than the sketch's `rank`. At most 1, to rounding, for Frequent Directions; near 1
    where the spectrum is flat. Defined for sums of all rows (β₂ = 1, none skipped) only.
    """

    name = "escaped_over_bound"

    def __call__(self, outcome: Estimated) -> float:
        """Return the quotient; raise `Missing` where there is no bound, or it is 0."""
        if outcome.rank is None:
            raise Missing("the bound needs the sketch's rank, and its recipe has no such field")
        if outcome.decay != 1:
            raise Missing(f"the bound is that of sums; this sketch decays by {outcome.decay:g}")
        if not outcome.whole:
            raise Missing("the bound is that of the rows observed, and rows were skipped")
        bound = escape_bound(outcome, outcome.rank)
        if not bound > 1e-12 * _norm(outcome):  # float64's rounding of a tail that isn't there
            raise Missing(f"C has no mass behind rank {outcome.rank}")
        return outcome.tail / bound


class TailShare(_CovarianceScore):
    """ρ / (ρ + trace of what is held): near 1 the diagonal says more than the directions kept.

    Above one half the sketch is little more than a multiple of I: raise its rank, or let it decay.
    """

    name = "tail_share"
    margin = 0.02
    relative = False

    def __call__(self, outcome: Estimated) -> float:
        """Return the share, from 0 to 1; raise `Missing` of a sketch that holds nothing."""
        held = outcome.dense.double().trace() - outcome.tail * len(outcome.dense)
        whole = outcome.tail + float(held.clamp_min(0))
        if whole == 0:
            raise Missing("the sketch holds nothing")
        return outcome.tail / whole


class EscapedShare(Score):
    """ρ / (ρ + trace of what is held) of an optimizer's sketches in training: their median.

    Above one half the usual sketch is little more than a multiple of I: raise the rank, or let it
    decay. 0 while sketches aren't full.
    """

    name = "escaped_share"
    consumes = Escaped
    unit = "fraction"
    direction = "lower"
    margin = 0.02

    def __call__(self, outcome: Escaped) -> float:
        """Return the median over sketches; raise `Missing` where there are none."""
        if not len(outcome.shares):
            raise Missing("the optimizer sketches nothing, or tells nothing of it")
        return float(outcome.shares.double().quantile(0.5))


def escape_bound(outcome: Estimated, rank: int) -> float:
    """Return min over k ≤ rank of Σ_{i>k} λᵢ(C) / (rank + 1 − k)."""
    behind = outcome.spectrum.clamp_min(0).flip(0).cumsum(0).flip(0).tolist()  # from i = k + 1 on
    sums = [*behind, 0.0]
    kept = min(rank, len(behind))
    return float(min(sums[k] / (rank + 1 - k) for k in range(kept + 1)))


def _norm(outcome: Estimated) -> float:
    """Return ‖C‖₂; raise `Missing` where it is 0."""
    norm = float(outcome.spectrum[0])
    if not norm > 0:
        raise Missing(f"relative to the exact covariance, whose norm is {norm:g}")
    return norm
