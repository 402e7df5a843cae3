"""Break-even ranks, told for the largest shapes of the model that an experiment trains."""

from types import SimpleNamespace

import pytest
import torch
from sketchbench_dense import Adam

from sketchbench import Field, Model, Optimizer
from sketchbench.builtin import MLP, Digits, Train
from sketchbench.report.ranks import break_evens


class Ranked(Optimizer):
    """States half of the shorter side; nothing of shapes of a side of `silent`."""

    name = "ranked"
    rank: int = Field(40, ge=1, description="k.")
    lr: float = Field(0.1, description="η.")
    silent: int = Field(0, description="Side of shapes without a break-even.")

    def build(self, params):
        return torch.optim.SGD(params, lr=self.lr)

    def break_even(self, shape):
        if self.silent < 0:
            raise RuntimeError("a mistake\nof its own")
        return None if self.silent in shape else min(shape) // 2


class Immaterial(Model):
    """Far too large for any memory: it is built on fake tensors."""

    name = "immaterial"

    def build(self, shapes):
        return torch.nn.Linear(2**30, 2**20)


def cell(optimizer, experiment="e", model=None):
    model = model or MLP(hidden=(96, 96, 96, 50))
    workload = Train(task=Digits(), model=model, optimizer=optimizer)
    return SimpleNamespace(experiment=experiment, workload=workload)


def test_the_largest_shapes_are_told_with_the_rank_asked_for():
    assert break_evens([cell(Ranked())]) == {
        "e": [
            "break-even rank of ranked (asked for 40): 48 for 96 × 96 (2 of them), "
            "32 for 96 × 64 (exceeded), 25 for 50 × 96 (exceeded)"
        ]
    }


def test_shapes_without_a_break_even_make_room_for_smaller_ones():
    (line,) = break_evens([cell(Ranked(silent=96, rank=5))])["e"]
    assert line == "break-even rank of ranked (asked for 5): 5 for 10 × 50"


def test_an_optimizer_of_one_rank_is_told_once_an_experiment():
    cells = [
        cell(Ranked(lr=lr, rank=rank), experiment)
        for experiment in ("a", "b")
        for rank in (1, 2)
        for lr in (0.1, 0.2)
    ]
    found = break_evens(cells)
    assert {experiment: len(lines) for experiment, lines in found.items()} == {"a": 2, "b": 2}


@pytest.mark.parametrize("optimizer", [Adam(), Ranked(silent=96)])
def test_what_states_nothing_is_not_told(optimizer):
    model = MLP(hidden=(96,))
    assert break_evens([cell(optimizer, model=model)]) == {}


def test_a_model_takes_no_memory():
    (line,) = break_evens([cell(Ranked(), model=Immaterial())])["e"]
    assert line == ("break-even rank of ranked (asked for 40): 524288 for 1048576 × 1073741824")


def test_a_recipe_that_fails_costs_its_break_even_alone():
    found = break_evens([cell(Ranked(silent=-1)), cell(Ranked(rank=3), "b")])
    assert found["e"] == [
        "break-even rank of ranked (asked for 40): unknown: RuntimeError: a mistake of its own"
    ]
    assert "48 for 96 × 96" in found["b"][0]
