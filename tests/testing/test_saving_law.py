"""The law of saving memory catches a sketch that keeps as much as exact training, or more."""

import pytest
import torch
from torch import nn

from sketchbench import ActivationSketch, Field, Skip
from sketchbench.autodiff import Plain
from sketchbench.measure import category
from sketchbench.testing.saving import keeps_fewer_bytes_above_its_break_even as law


class Rows(ActivationSketch):
    """Adds up gradients of a few rows at a time; `fault` spoils what that saves."""

    name = "rows"
    rows: int = Field(4, ge=1, description="Rows of a part.")
    claim: int | None = Field(5, description="The break-even that it declares.")
    fault: str = Field("", description="What is wrong.")

    def break_even(self, width):
        return self.claim

    def build(self, model, batch_size, rng):
        if self.fault == "skips":
            raise Skip("no model is good enough")
        return Parts(model, self.rows, self.fault)


class Late(Rows):
    """Takes the batch whole in the second step of two."""

    name = "late"
    fault: str = Field("late", description="What is wrong.")

    @property
    def period(self):
        return 2


class Parts(Plain):
    def __init__(self, model, rows, fault):
        super().__init__(model)
        self.rows, self.fault, self.steps, self.held = rows, fault, 0, []

    def accumulate(self, inputs, targets, loss):
        self.steps += 1
        if self.fault == "skips later":
            raise Skip("the batch is too small")
        late = self.fault == "late" and self.steps == 2
        rows = len(inputs) if late else self.rows
        if self.fault == "hoards":
            with category("sketch"):
                self.held.append(torch.ones(10**6))
        means = []
        for x, y in zip(inputs.split(rows), targets.split(rows), strict=True):
            part = loss(self.model(x), y) * (len(x) / len(inputs))
            part.backward()
            means.append(part.detach())
        return torch.stack(means).sum()


def test_a_sketch_that_keeps_fewer_bytes_keeps_the_law():
    law(Rows())


def test_nothing_is_asserted_below_the_break_even():
    law(Rows(claim=100))


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (Rows(rows=1000), r"than the 15768 of exact training at 10 rows, .*; it keeps 15768"),
        (Rows(rows=4, claim=2), "of exact training at 4 rows, twice"),
        (Rows(fault="hoards"), "it keeps 400"),
        (Late(), "it keeps 15768"),
        (Rows(claim=0), r"a number of rows, at least 1, or None; got 0"),
        (Rows(claim=-3), r"a number of rows, at least 1, or None; got -3"),
    ],
    ids=["keeps the batch", "too early", "hoards", "every other step", "zero", "negative"],
)
def test_a_sketch_that_saves_nothing_is_caught(recipe, text):
    with pytest.raises(AssertionError, match=f"expected .*{text}"):
        law(recipe)


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (Rows(claim=None), r"doesn't claim to save memory .* break_even\(64\) is None"),
        (Rows(fault="skips"), "no model is good enough"),
        (Rows(fault="skips later"), "the batch is too small"),
    ],
)
def test_what_claims_nothing_or_skips_the_model_is_skipped(recipe, text):
    with pytest.raises(pytest.skip.Exception, match=text):
        law(recipe)


def test_a_sketch_claims_nothing_by_itself():
    class Modest(ActivationSketch):
        """Claims nothing."""

        name = "modest"

        def build(self, model, batch_size, rng):
            return Plain(model)

    assert Modest().break_even(64) is None
    assert isinstance(Modest().build(nn.Linear(1, 1), 1, torch.Generator()), Plain)
