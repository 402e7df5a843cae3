"""Spectra of curvature: on a quadratic whose Hessian is known, through sketches, along training."""

import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from sketchbench import Field, GradientSketch, Missing, Shapes, Split, Task
from sketchbench.builtin import (
    MLP,
    RNEG,
    BasisBytes,
    CurvatureTrace,
    ExcessOutliers,
    HessianSpectrum,
    LeastEigenvalueError,
    NegativeMass,
    Outliers,
    OutlierShare,
    RNEGFloor,
    TopEigenvalue,
    TopEigenvalueError,
)
from sketchbench.builtin.workloads.outlying import Looked, LooksAt, Shares
from sketchbench.linalg import RandomMatrix
from sketchbench.run import Run

CPU = torch.device("cpu")
LINEAR = MLP(hidden=())
VALUES = torch.tensor([1.0, 2.0, 3.0, 10.0, 20.0], dtype=torch.float64)


class Quadratic(Task):
    """Squared loss of a linear model whose Hessian, in its weights, has `VALUES` in turn.

    The mean over n examples of (w·x)², so 2XᵀX/n: rows √(nλ/2) times the axes.
    """

    name = "test-quadratic"
    sign: float = Field(1.0)

    @property
    def shapes(self):
        return Shapes((5,), 1)

    def load(self, split):
        inputs = (len(VALUES) * VALUES / 2).sqrt().diag().float()
        return Split(inputs, torch.arange(5.0))

    def loss(self, outputs, targets):
        return self.sign * F.mse_loss(outputs.squeeze(-1), targets)


class Blobs(Task):
    """Three classes, apart enough to be learnt in a few steps."""

    name = "test-blobs"
    center: float = Field(2.0)

    @property
    def shapes(self):
        return Shapes((4,), 3)

    def load(self, split):
        rng = torch.Generator().manual_seed(0 if split == "train" else 1)
        targets = torch.arange(60) % 3
        centers = self.center * torch.eye(3, 4)
        return Split(centers[targets] + 0.3 * torch.randn(60, 4, generator=rng), targets)

    def loss(self, outputs, targets):
        return F.cross_entropy(outputs, targets)


class Dense(GradientSketch):
    """Gaussian entries of variance 1/D."""

    name = "test-dense"
    out_size: int = Field(16)

    def build(self, size, rng, device):
        seed = int(torch.randint(2**31, (), generator=rng))
        fill = lambda tile, rng: tile.normal_(generator=rng)
        return RandomMatrix((self.out_size, size), seed, fill, device)


class Kept(Run):
    def __init__(self, seed=0):
        super().__init__(CPU, seed)
        self.looks = {}

    def deliver(self, name, outcome, at=None):
        super().deliver(name, outcome, at)
        if isinstance(outcome, Looked):
            self.looks[at] = outcome


@pytest.fixture
def spectrum(sgd):
    def make(**fields):
        defaults = {
            "task": Quadratic(),
            "model": LINEAR,
            "optimizer": sgd(lr=0.0),
            "sketch": None,
            "krylov": 6,
            "at": (0,),
        }
        return HessianSpectrum(**(defaults | fields))

    return make


def looks(workload, seed=0):
    run = Kept(seed)
    workload.run(run)
    return run.looks


@pytest.mark.parametrize("operator", ["hessian", "ggn"])
def test_a_quadratics_eigenvalues_are_those_planted(spectrum, operator):
    look = looks(spectrum(operator=operator, layers="*.weight", precision="float64"))[0]
    # inputs are rounded to float32 before they are squared
    torch.testing.assert_close(look.seen.values, VALUES, rtol=1e-6, atol=0)
    assert look.size == 5
    assert look.out_size is None
    assert RNEG()(look) == RNEGFloor()(look) == 0
    assert TopEigenvalue()(look) == pytest.approx(20)
    assert Outliers()(look) == 2  # above a fifth of 20
    assert BasisBytes()(look) == 5 * 5 * 8


def test_the_gradients_share_of_outliers_is_that_of_its_coordinates(spectrum):
    """Eigenvectors are axes: the last two hold the outliers; at a rate of 0 weights stay."""
    run = Kept()
    workload = spectrum(layers="*.weight", precision="float64", nulls=2000)
    workload.run(run)
    split, loss = workload.task.load("train"), workload.task.loss
    model = run.watched.model.zero_grad() or run.watched.model
    loss(model(split.inputs), split.targets).backward()
    slope = model[-1].weight.grad.flatten().double()
    share = (slope[3:] ** 2).sum() / (slope**2).sum()
    look = run.looks[0]
    assert OutlierShare()(look) == pytest.approx(share.item(), rel=1e-5)
    # two of five dimensions; a share's deviation is below 1/2 in any case
    for vector in ("random", "permuted"):
        found = OutlierShare(vector=vector)(look)
        assert abs(found - 0.4) <= 5 * 0.5 / math.sqrt(2000)


def test_a_concave_loss_has_no_positive_eigenvalue_to_compare_with(spectrum):
    look = looks(spectrum(task=Quadratic(sign=-1.0), layers="*.weight"))[0]
    assert look.seen.values[0].item() == pytest.approx(-20)
    assert Outliers()(look) == 0
    assert OutlierShare()(look) == 0
    with pytest.raises(Missing, match="largest eigenvalue is -1"):
        RNEG()(look)


def test_trace_and_negative_mass_are_those_of_the_quadratic(spectrum):
    look = looks(spectrum(layers="*.weight", trace_products=15, probes=40, precision="float64"))[0]
    assert CurvatureTrace()(look) == pytest.approx(36, rel=1e-6)  # 15 products are all of R⁵
    assert NegativeMass()(look) == 0
    found = look.density.trace()
    assert abs(found.value - 36) <= 5 * found.error


def test_through_a_sketch_the_spectrum_is_that_of_s_a_st(spectrum):
    workload = spectrum(sketch=Dense(out_size=3), layers="*.weight", exact=True, floor_divisor=3)
    run = Kept()
    workload.run(run)
    look = run.looks[0]
    sketch = Dense(out_size=3).build(5, Run(CPU, 0).rng("sketch"), CPU)
    rows = sketch.adjoint(torch.eye(3)).double()
    truth = torch.linalg.eigvalsh(rows @ VALUES.diag() @ rows.T)
    torch.testing.assert_close(look.seen.values, truth, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(look.exact.values, VALUES, rtol=1e-4, atol=1e-5)
    assert len(look.smaller.values) == 1
    assert BasisBytes()(look) == 3 * 3 * 4
    error = (truth.flip(0)[:1] - VALUES[-1]).abs() / VALUES[-1]
    assert TopEigenvalueError(count=1)(look) == pytest.approx(error.item(), rel=1e-3)


def test_looks_are_at_the_steps_asked_for_and_see_the_weights_of_then(spectrum, sgd):
    common = {"task": Blobs(), "model": MLP(hidden=(6,)), "optimizer": sgd(), "batch_size": 20}
    found = looks(spectrum(**common, at=(0, 2, 5), epochs=2))
    assert list(found) == [0, 2, 5]
    ends = [look.seen.values[-1].item() for look in found.values()]
    assert len(set(ends)) == 3
    assert list(looks(spectrum(**common, at=(), epochs=2))) == [6]
    with pytest.raises(ValueError, match="at 7 is beyond the last step, 6; raise epochs"):
        looks(spectrum(**common, at=(7,), epochs=2))


def test_pretraining_changes_where_fine_tuning_begins(spectrum, sgd):
    common = {"task": Blobs(), "model": MLP(hidden=(6,)), "optimizer": sgd(), "batch_size": 20}
    fresh = looks(spectrum(**common))[0]
    tuned = looks(spectrum(**common, pretrain=Blobs(center=-2.0), pretrain_epochs=2))[0]
    assert tuned.seen.values[-1] != fresh.seen.values[-1]


@pytest.mark.parametrize("operator", ["ggn", "fisher", "empirical-fisher"])
def test_other_operators_have_no_negative_eigenvalue(spectrum, sgd, operator):
    workload = spectrum(
        task=Blobs(), model=MLP(hidden=(6,)), optimizer=sgd(), operator=operator, krylov=60
    )
    look = looks(workload)[0]
    assert RNEG()(look) <= 1e-5  # single precision
    assert ExcessOutliers()(look) == Outliers()(look) - 2


def look(**fields):
    """A look of exact values 8, 4, 1, −1 through sketches whose least value is shifted."""
    exact = LooksAt(torch.tensor([-1.0, 1.0, 4.0, 8.0]).double(), torch.zeros(4).double())
    seen = LooksAt(torch.tensor([-1.5, 1.0, 4.4, 8.0]).double(), torch.zeros(4).double())
    smaller = LooksAt(torch.tensor([-2.0, 1.0, 4.0, 8.0]).double(), torch.zeros(4).double())
    defaults = {
        "size": 100,
        "out_size": 16,
        "classes": 3,
        "seen": seen,
        "exact": exact,
        "smaller": smaller,
        "divisor": 4,
        "basis_bytes": 1,
        "above": 0.2,
        "shares": Shares(2, 0.5, 0.1, 0.1),
        "density": None,
        "trace": None,
    }
    return Looked(**(defaults | fields))


def test_scores_are_their_definitions():
    assert TopEigenvalueError(count=2)(look()) == pytest.approx((0 + 0.4 / 4) / 2)
    assert LeastEigenvalueError()(look()) == pytest.approx(0.5 / 8)
    assert RNEG()(look()) == pytest.approx(1.5 / 8)
    assert RNEGFloor()(look()) == pytest.approx(0.5 / 8)  # −1.5 and −2: half a unit for each √D
    assert ExcessOutliers()(look()) == 0
    lifted = LooksAt(look().smaller.values + 2.5, look().smaller.residuals)
    assert RNEGFloor()(look(smaller=lifted)) == pytest.approx(2 / 8)  # from −1.5 to 0.5: as far


def test_scores_without_what_they_need_are_missing_with_the_field_to_set():
    for score, lacking, why in (
        (TopEigenvalueError(count=2), {"exact": None}, "set exact"),
        (TopEigenvalueError(count=5), {}, "fewer than 5"),
        (RNEGFloor(), {"smaller": None}, "set floor_divisor"),
        (CurvatureTrace(), {}, "set trace_products"),
        (NegativeMass(), {}, "set probes"),
    ):
        with pytest.raises(Missing, match=why):
            score(look(**lacking))
    loose = LooksAt(look().exact.values, torch.ones(4, dtype=torch.float64))
    with pytest.raises(Missing, match="reference has not converged"):
        TopEigenvalueError(count=2)(look(exact=loose))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"at": (5, 2)}, "doesn't increase"),
        ({"trace_products": 3}, "must be 0, or 6 or more"),
        ({"pretrain": Blobs()}, "they must be the same"),
    ],
)
def test_what_cannot_be_meant_is_refused(spectrum, fields, why):
    with pytest.raises(ValidationError, match=why):
        spectrum(**fields)
