"""The law of break-even ranks catches a rank that is one off, and says what was found."""

import math

import pytest
import torch

from sketchbench import Field, Optimizer
from sketchbench.testing.break_even import breaks_even_at_the_rank_it_says as law


class Ranked(Optimizer):
    """Declares two factors of `rank` columns a parameter; `fault` says something else."""

    name = "ranked"
    rank: int = Field(3, ge=1, description="k.")
    fault: str = Field("", description="What is wrong.")

    def build(self, params):
        return torch.optim.SGD(params, lr=0.1)

    def state_bytes(self, params):
        if self.fault == "silent":
            return None
        sides = sum(sum(self.sides(p.shape)) for p in params)
        rank = 3 if self.fault == "deaf" else self.rank
        return {"sketch": 4 * rank * sides, "momentum": 10**6, "graft": 10**6, "rest": 10**6}

    def break_even(self, shape):
        if self.fault == "none":
            return None
        if self.fault == "never":
            return 0
        rows, columns = self.sides(shape)
        off = {"low": -1, "high": 1, "number": 0.5}.get(self.fault, 0)
        return rows * columns // (rows + columns) + off

    @staticmethod
    def sides(shape):
        return shape[0], math.prod(shape[1:])


def test_a_break_even_that_the_declared_bytes_bear_out_is_kept():
    law(Ranked())


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("high", r"no more than the 6144 bytes of Adam's second moment at rank 20, .* it declares"),
        ("low", r"more than the 6144 bytes of Adam's second moment at rank 19, one above"),
        ("never", r"more than the 6144 bytes of Adam's second moment at rank 1, one above"),
        ("deaf", "more than the 6144 bytes .* at rank 20"),
        ("number", r"break_even\(\(48, 32\)\) to be a rank, at least 0, or None; got 19.5"),
        ("silent", "expected ranked, which states a break-even rank, to declare its state_bytes"),
    ],
)
def test_a_wrong_break_even_is_caught(fault, said):
    with pytest.raises(AssertionError, match=said):
        law(Ranked(fault=fault))


def test_without_a_break_even_nothing_is_asserted():
    with pytest.raises(pytest.skip.Exception, match="ranked states no break-even rank"):
        law(Ranked(fault="none"))
    assert Optimizer.break_even(Ranked(), (3, 4)) is None
