"""Two ways to a sketched gradient: each against finite differences, and against the other."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sketchbench import GradientSketch
from sketchbench.builtin import MLP, Digits, ImplicitExplicit, RelativeError, StepTime
from sketchbench.builtin.workloads.subspace import Subspace, lift
from sketchbench.run import Run, Wanted

CPU = torch.device("cpu")
WAYS = ("explicit", "implicit")


class Rows:
    """A dense map that counts how often it is used, and that autograd can't see through."""

    def __init__(self, size, out_size=6, dtype=torch.float64):
        rng = torch.Generator().manual_seed(1)
        drawn = torch.randn(out_size, size, generator=rng, dtype=torch.float64)
        self.matrix = (drawn / math.sqrt(out_size)).to(dtype)
        self.shape = (out_size, size)
        self.applied = self.lifted = 0

    def apply(self, x):
        self.applied += 1
        return x.detach() @ self.matrix.to(x.dtype).mT

    def adjoint(self, y):
        self.lifted += 1
        return y.detach() @ self.matrix.to(y.dtype)


class Dense(GradientSketch):
    """The dense map."""

    name = "test-dense"

    def build(self, size, rng, device):
        return Rows(size, 50, torch.float32)


@pytest.fixture
def case():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    sketch = Rows(sum(p.numel() for p in model.parameters()))
    inputs = torch.randn(8, 5, dtype=torch.float64)
    return model, sketch, inputs, torch.arange(8) % 3


@pytest.mark.parametrize("way", WAYS)
def test_each_way_is_the_slope_of_the_loss_along_each_direction(case, way):
    """Truth: central differences of ω ↦ L(θ₀ + Φᵀω), which know neither autograd nor Φ."""
    model, sketch, inputs, targets = case
    subspace = Subspace(model, sketch)
    omega = torch.linspace(-1, 1, 6, dtype=torch.float64)
    loss, found = subspace.gradient(way, omega, inputs, targets, F.cross_entropy)

    def at(moved):
        with torch.no_grad():
            return F.cross_entropy(subspace.place(moved)(inputs), targets)

    assert loss == at(omega)
    h = 1e-5
    slopes = [(at(omega + h * e) - at(omega - h * e)) / (2 * h) for e in torch.eye(6).double()]
    torch.testing.assert_close(found, torch.stack(slopes), rtol=0, atol=1e-9)


def test_the_two_ways_agree_in_single_precision(case):
    model, _, inputs, targets = case
    model, inputs = model.float(), inputs.float()
    subspace = Subspace(model, Rows(39, dtype=torch.float32))
    omega = torch.linspace(-1, 1, 6)
    ways = [subspace.gradient(way, omega, inputs, targets, F.cross_entropy) for way in WAYS]
    for one, other in zip(*ways, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_the_parameters_stay_and_no_gradient_is_left_in_them(case):
    model, sketch, inputs, targets = case
    before = [p.clone() for p in model.parameters()]
    for way in WAYS:
        Subspace(model, sketch).gradient(
            way, torch.ones(6).double(), inputs, targets, F.cross_entropy
        )
    for parameter, old in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, old)
        assert parameter.grad is None


def test_placing_moves_the_model_from_its_start_each_time(case):
    model, sketch, *_ = case
    start = torch.cat([p.detach().flatten() for p in model.parameters()])
    subspace = Subspace(model, sketch)
    omega = torch.ones(6, dtype=torch.float64)
    for _ in range(2):
        placed = torch.cat([p.detach().flatten() for p in subspace.place(omega).parameters()])
        torch.testing.assert_close(placed, start + sketch.matrix.mT @ omega)


@pytest.mark.parametrize(("way", "lifts"), [("explicit", 0), ("implicit", 1)])
def test_at_the_start_the_explicit_way_needs_no_adjoint(case, way, lifts):
    model, sketch, inputs, targets = case
    Subspace(model, sketch).gradient(way, None, inputs, targets, F.cross_entropy)
    assert (sketch.applied, sketch.lifted) == (1, lifts)


def test_a_lift_is_linear_and_twice_differentiable_where_the_sketch_is_not():
    sketch = Rows(9)
    omega = torch.ones(6, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(lift(sketch, omega).square().sum() / 2, omega)
    torch.testing.assert_close(found, sketch.matrix @ sketch.matrix.mT @ omega.detach())


@pytest.mark.parametrize("way", WAYS)
def test_sketched_gradients_are_those_of_double_precision_to_rounding(way):
    run = Run(CPU, 0, [Wanted(RelativeError(), "gradient"), Wanted(StepTime(), "step")])
    task, model = Digits(train_limit=64), MLP(hidden=(16,))
    ImplicitExplicit(task=task, model=model, sketch=Dense(), gradient=way, repeats=4).run(run)
    found = {m.metric: m for m in run.measurements()}
    assert 0 < found["relative_error"].value < 1e-5
    assert found["step_time"].parts["occurrences"] == 2
