"""Scores of a sketched quantity against the exact one."""

from __future__ import annotations

from sketchbench import Approximation, Score


class RelativeError(Score):
    """Frobenius norm of the error as a fraction of the exact quantity's: ‖X − X̂‖ / ‖X‖."""

    name = "relative_error"
    consumes = Approximation
    unit = "fraction"
    direction = "lower"
    margin = 0.05
    relative = True

    def __call__(self, outcome: Approximation) -> float:
        """Return the relative error, in double precision; 0 where both are zero."""
        exact, approx = outcome.exact.double(), outcome.approx.double()
        error = (exact - approx).norm()
        return (error / exact.norm()).item() if error != 0 else 0.0
