"""A method in a few lines, as a third party would write one: dense factors in any precision."""

import pytest
import torch
from torch import Generator, nn

from sketchbench.linalg import symmetric_power


class Exact:
    """A factor kept whole, and its power beside it."""

    parts = {"factor": "preconditioner", "power": "preconditioner"}

    def __init__(self, beta2=1.0):
        self.beta2 = beta2
        self.absorbed = []  # shapes of the increments, call by call

    def empty(self, batch, sizes, axis, *, device, dtype):
        shape = (batch, sizes[axis], sizes[axis])
        return {name: torch.zeros(shape, device=device, dtype=dtype) for name in self.parts}

    def absorb(self, kept, increment):
        self.absorbed.append(tuple(increment.shape))
        return {"factor": self.beta2 * kept["factor"] + increment @ increment.mT}

    def refresh(self, kept, exponent):
        return {"power": symmetric_power(kept["factor"], exponent, 1e-12)}

    def apply(self, kept, x, exponent):
        return kept["power"] @ x


@pytest.fixture
def exact():
    return Exact


@pytest.fixture
def make():
    """Return parameters of the shapes asked for, in float64 unless told otherwise."""

    def made(*shapes, seed=0, dtype=torch.float64):
        rng = Generator().manual_seed(seed)
        drawn = [torch.randn(shape, generator=rng, dtype=torch.float64) for shape in shapes]
        return [nn.Parameter(each.to(dtype)) for each in drawn]

    return made


@pytest.fixture
def train():
    """Take steps with random gradients, the same for one seed; return the parameters."""

    def trained(optimizer, seeds, idle=()):
        params = [p for group in optimizer.param_groups for p in group["params"]]
        for seed in seeds:
            rng = Generator().manual_seed(seed)
            for index, p in enumerate(params):
                drawn = torch.randn(p.shape, generator=rng, dtype=torch.float64).to(p)
                p.grad = None if index in idle else drawn
            optimizer.step()
        return params

    return trained
