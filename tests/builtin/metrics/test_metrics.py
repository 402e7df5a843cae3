import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from sketchbench import Approximation, Predictions
from sketchbench.builtin import Accuracy, BuildTime, Loss, RelativeError, StepTime, TimeToTarget
from sketchbench.measure import Elapsed


class Curve:
    """A record of one curve, as (at, value, seconds)."""

    def __init__(self, *points):
        self.points = points
        self.asked = None
        self.better = "higher"

    def direction(self, metric, where=None):
        return self.better

    def value(self, metric, where=None):
        return None

    def curve(self, metric, where=None):
        self.asked = (metric, where)
        return self.points


def test_accuracy_is_the_fraction_of_largest_outputs():
    outputs = torch.tensor([[1.0, 0.0], [0.2, 0.1], [0.0, 3.0], [-1.0, -2.0]])
    assert Accuracy()(Predictions(outputs, torch.tensor([0, 1, 1, 0]), 0.0)) == 0.75


def test_accuracy_of_outputs_that_are_not_finite_is_nan():
    outputs = torch.tensor([[1.0, 0.0], [math.inf, 0.0]])
    assert math.isnan(Accuracy()(Predictions(outputs, torch.tensor([0, 0]), 0.0)))


def test_loss_is_what_the_task_said():
    assert Loss()(Predictions(torch.zeros(1, 2), torch.zeros(1), 1.25)) == 1.25


def test_relative_error_is_a_ratio_of_frobenius_norms():
    exact = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    assert RelativeError()(Approximation(exact, exact)) == 0
    assert RelativeError()(Approximation(exact, torch.zeros(2, 2))) == 1
    assert RelativeError()(Approximation(exact, exact + 1)) == pytest.approx(2 / 5)
    assert RelativeError()(Approximation(exact * 0, exact * 0)) == 0
    assert RelativeError()(Approximation(exact * 0, exact)) == math.inf


def test_step_time_is_the_total_over_the_number():
    walls = np.random.RandomState(0).exponential(size=41)
    readings = [Elapsed(wall, 2 * wall) for wall in walls]
    summary = StepTime().summarise(readings)
    assert summary["value"] == pytest.approx(walls.mean())
    assert summary["median"] == pytest.approx(np.quantile(walls, 0.5))
    assert summary["p95"] == pytest.approx(np.quantile(walls, 0.95))
    assert summary["cpu"] == pytest.approx(2 * walls.mean())
    assert StepTime().sample(readings[3]) == walls[3]


def test_one_occurrence_is_its_own_summary():
    assert dict(BuildTime().summarise([Elapsed(0.5, 0.25)])) == {
        "value": 0.5,
        "median": 0.5,
        "p95": 0.5,
        "cpu": 0.25,
    }


def test_time_to_target_is_that_of_the_first_point_that_reaches_it():
    cell = Curve((1, 0.5, 10.0), (2, 0.9, 20.0), (3, 0.8, 30.0), (4, 0.95, 40.0))
    assert TimeToTarget(target=0.9).derive(cell) == 20.0
    assert TimeToTarget(target=0.91).derive(cell) == 40.0
    assert TimeToTarget(target=0.96).derive(cell) is None
    assert TimeToTarget(target=0.96).derive(Curve()) is None


def test_time_to_target_respects_the_scores_direction():
    cell = Curve((1, 2.0, 10.0), (2, 1.0, 20.0), (3, 0.5, 30.0))
    cell.better = "lower"
    assert TimeToTarget(metric="loss", target=0.7).derive(cell) == 30.0
    cell.better = "higher"
    assert TimeToTarget(metric="other", target=0.7).derive(cell) == 10.0


def test_time_to_target_reads_the_named_outcome():
    cell = Curve()
    TimeToTarget(metric="loss@train", target=1.0).derive(cell)
    assert cell.asked == ("loss", "train")


def test_time_to_target_needs_a_target():
    with pytest.raises(ValidationError, match="needs 'target'"):
        TimeToTarget.model_validate({})
