"""Scores of sketched linear algebra: residuals, iterations, embeddings, low rank."""

from __future__ import annotations

from sketchbench import Missing, Score
from sketchbench.builtin.workloads.least_squares import Preconditioned, Solved
from sketchbench.builtin.workloads.linear_algebra import Embedded
from sketchbench.builtin.workloads.low_rank import LowRank


class ResidualRatio(Score):
    """Residual of the sketched problem's solution over the best, ‖Ax̂ − b‖ / ‖Ax* − b‖; mean.

    At least 1; its square is 1 + n/(D − n − 1) on average for a dense Gaussian and n columns.
    """

    name = "residual_ratio"
    consumes = Solved
    unit = "1"
    direction = "lower"
    margin = 0.02
    relative = True

    def __call__(self, outcome: Solved) -> float:
        """Return the mean over draws; raise `Missing` where b is in the range of A."""
        if not outcome.best > 0:
            raise Missing("b is in the range of A: there is no residual")
        return float(outcome.residuals.mean()) / outcome.best


class LSQRIterations(Score):
    """Iterations of LSQR with the sketch's preconditioner; mean over draws.

    A draw that doesn't converge counts as the limit: the mean is then a lower bound.
    """

    name = "lsqr_iterations"
    consumes = Preconditioned
    unit = "iterations"
    direction = "lower"
    margin = 0.05
    relative = True

    def __call__(self, outcome: Preconditioned) -> float:
        """Return the mean over draws."""
        return float(outcome.iterations.mean())


class LSQRSaving(Score):
    """Iterations of LSQR with the sketch's preconditioner over those without; mean over draws."""

    name = "lsqr_saving"
    consumes = Preconditioned
    unit = "fraction"
    direction = "lower"
    margin = 0.05
    relative = True

    def __call__(self, outcome: Preconditioned) -> float:
        """Return the quotient; raise `Missing` where LSQR alone doesn't converge."""
        if outcome.plain >= outcome.limit:
            raise Missing(f"without a preconditioner it takes more than {outcome.limit} iterations")
        return float(outcome.iterations.mean()) / outcome.plain


class EmbeddingDistortion(Score):
    """max(σ₁ − 1, 1 − σₙ) of SQ, Q an orthonormal basis of A's range; mean over draws.

    Near √(n/D) for a dense Gaussian; 1 or more where a direction is lost.
    """

    name = "embedding_distortion"
    consumes = Embedded
    unit = "1"
    direction = "lower"
    margin = 0.05
    relative = True

    def __call__(self, outcome: Embedded) -> float:
        """Return the mean over draws."""
        return float((outcome.largest - 1).maximum(1 - outcome.smallest).mean())


class LowRankRatio(Score):
    """Error of an approximation of rank k from a sketch over that of the best one; mean over draws.

    In the Frobenius norm for `svd`, in the trace norm for `nystrom`. At least 1.
    """

    name = "low_rank_ratio"
    consumes = LowRank
    unit = "1"
    direction = "lower"
    margin = 0.02
    relative = True

    def __call__(self, outcome: LowRank) -> float:
        """Return the mean over draws; raise `Missing` where the best error is 0."""
        if not outcome.best > 0:
            raise Missing("the matrix has no tail behind this rank")
        return float(outcome.errors.mean()) / outcome.best
