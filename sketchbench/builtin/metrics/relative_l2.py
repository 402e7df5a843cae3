"""The score of a solution of a differential equation."""

from __future__ import annotations

from sketchbench import Predictions, Score


class RelativeL2(Score):
    """Distance of the solution found from the exact one on the split's points: ‖û − u‖ / ‖u‖.

    û is the first column of the outputs, u the last one of the targets.
    """

    name = "relative_l2"
    consumes = Predictions
    unit = "fraction"
    direction = "lower"
    margin = 0.1
    relative = True

    def __call__(self, outcome: Predictions) -> float:
        """Return the relative error, in double precision; raise `ValueError` for classes."""
        if outcome.targets.dim() != 2 or not outcome.targets.is_floating_point():
            raise ValueError(
                "relative_l2: needs targets (n, columns) whose last is the exact solution; got "
                f"shape {tuple(outcome.targets.shape)}, {outcome.targets.dtype}"
            )
        found, exact = outcome.outputs[:, 0].double(), outcome.targets[:, -1].double()
        return float((found - exact).norm() / exact.norm())
