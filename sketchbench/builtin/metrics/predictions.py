"""Scores of a trained model's predictions."""

from __future__ import annotations

import math

from sketchbench import Predictions, Score


class Accuracy(Score):
    """Fraction of examples whose largest output is the target's class."""

    name = "accuracy"
    consumes = Predictions
    unit = "fraction"
    direction = "higher"
    margin = 0.005

    def __call__(self, outcome: Predictions) -> float:
        """Return the fraction of right classes, or nan where an output isn't finite."""
        if not outcome.outputs.isfinite().all():
            return math.nan
        return (outcome.outputs.argmax(dim=1) == outcome.targets).double().mean().item()


class Loss(Score):
    """Mean loss of the task over the split, without augmentation."""

    name = "loss"
    consumes = Predictions
    unit = "nats"
    direction = "lower"
    margin = 0.01

    def __call__(self, outcome: Predictions) -> float:
        """Return the outcome's loss."""
        return outcome.loss
