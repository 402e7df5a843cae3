"""The search for the intrinsic dimension on a task whose dimension is known, and its bound."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from sketchbench import Diverged, GradientSketch, Missing, Model, Optimizer, Shapes, Split, Task
from sketchbench.builtin import (
    MLP,
    Accuracy,
    AccuracyMargin,
    CompressionBound,
    Digits,
    DimensionShare,
    IntrinsicDimensionSearch,
    SearchSteps,
    StepTime,
    SubspaceDimension,
)
from sketchbench.builtin.workloads.compression import WIDTHS, Compressed, code_bits, quantised
from sketchbench.run import Run, Wanted

CPU = torch.device("cpu")
GROUPS, CLASSES = 16, 10
WANTED = [
    *(Wanted(Accuracy(), place) for place in ("test", "reference")),
    *(Wanted(score(), "search") for score in (SubspaceDimension, DimensionShare, SearchSteps)),
    *(Wanted(AccuracyMargin(), place) for place in ("search", "half")),
    *(Wanted(CompressionBound(), "compression"), Wanted(StepTime(), "step")),
]


class Sums(Task):
    """Sixteen examples, each a group of ten inputs, and the level that its parameters shall reach.

    Any fifteen levels take fifteen directions, and the first d of `Aligned` reach the first d.
    """

    name = "test-sums"

    @property
    def shapes(self):
        return Shapes((10 * GROUPS,), CLASSES)

    def load(self, split):
        inputs = torch.kron(torch.eye(GROUPS), torch.ones(1, 10)) / math.sqrt(10)
        return Split(inputs, torch.arange(GROUPS) % (CLASSES - 1) + 1)

    def loss(self, outputs, targets):
        return -outputs.gather(1, targets[:, None]).mean()


class Levels(Model):
    """⟨θ, x⟩ as the class that is nearest: logits −(⟨θ, x⟩ − c)²; θ starts at 0."""

    name = "test-levels"

    def build(self, shapes):
        return _Levels(shapes.inputs[0])


class _Levels(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(size))

    def forward(self, inputs):
        return -((inputs @ self.theta)[:, None] - torch.arange(CLASSES)).square()


class Aligned(GradientSketch):
    """Rows are the groups' directions, then others orthogonal to them."""

    name = "test-aligned"
    out_size: int = 64

    def build(self, size, rng, device):
        groups = Sums().load("train").inputs
        basis = torch.linalg.qr(torch.cat([groups, torch.eye(size)[:, : size // 2].mT]).mT)[0]
        basis = basis.mT[: self.out_size]
        return Rows(torch.cat([groups, basis[GROUPS:]])[: self.out_size])


class Dense(GradientSketch):
    """Gaussian entries of variance 1/D."""

    name = "test-dense"
    out_size: int = 32

    def build(self, size, rng, device):
        return Rows(torch.randn(self.out_size, size, generator=rng) / math.sqrt(self.out_size))


class Rows:
    def __init__(self, matrix):
        self.matrix, self.shape = matrix, tuple(matrix.shape)

    def apply(self, x):
        return x @ self.matrix.to(x.dtype).mT

    def adjoint(self, y):
        return y @ self.matrix.to(y.dtype)


class Mixing(Optimizer):
    """Gradient descent that moves every entry of what it is given."""

    name = "test-mixing"

    def build(self, params):
        return _Mixing(params, lr=4.0)


class _Mixing(torch.optim.SGD):
    def step(self):
        super().step()
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter += 0.01


class Kept(Run):
    def __init__(self, seed=0, wanted=()):
        super().__init__(CPU, seed, wanted)
        self.outcomes = {}

    def deliver(self, name, outcome, at=None):
        super().deliver(name, outcome, at)
        self.outcomes[name] = outcome


@pytest.fixture
def search(sgd):
    def run(wanted=(), **fields):
        # half of the way to a level is left after each step: 9/2⁵ < 1/2 after five
        given = {"task": Sums(), "model": Levels(), "optimizer": sgd(lr=4.0, momentum=0.0)}
        given |= {"sketch": Aligned(), "batching": "full", "epochs": 60, "every": 5, "first": 2}
        kept = Kept(wanted=wanted)
        IntrinsicDimensionSearch(**(given | fields)).run(kept)
        return kept

    return run


def values(run):
    return {(m.metric, m.where): m for m in run.measurements()}


def test_the_search_finds_a_dimension_that_is_known_and_half_of_it_fails(search):
    found = values(run := search(WANTED))
    assert found["subspace_dimension", "search"].value == 16
    assert found["dimension_share", "search"].value == 16 / 160
    assert found["accuracy", "reference"].value == 1.0
    # d = 2, 4, 8 each take one look to rise and one to be seen standing still
    assert found["search_steps", "search"].value == 35
    looks = [0, 2, 2, 4, 4, 8, 8, 16]
    assert found["accuracy", "test"].samples == [d / 16 for d in looks]
    assert found["accuracy", "test"].at == [5 * i for i in range(8)]
    assert [(e["at"], e["dimension"]) for e in run.events] == [(10, 4), (20, 8), (30, 16)]
    assert found["accuracy_margin", "half"].value == pytest.approx(8 / 16 - 0.9)
    assert run.outcomes["half"].steps == 60
    assert found["step_time", "step"].parts["occurrences"] == 33  # of the search alone


def test_implicit_gradients_give_the_same_search(search):
    fields = {"task": Digits(train_limit=100, test_limit=50), "model": MLP(hidden=(8,))}
    fields |= {"sketch": Dense(), "reference": 0.9, "epochs": 20, "verify": False}
    searches = []
    for gradient in ("explicit", "implicit"):
        run = search([Wanted(Accuracy(), "test")], **fields, gradient=gradient)
        searches.append((values(run)["accuracy", "test"].samples, run.outcomes["search"]))
    assert searches[0] == searches[1]


def test_a_target_out_of_reach_has_no_dimension(search):
    run = search(WANTED, sketch=Aligned(out_size=12))
    found = values(run)
    missing = found["subspace_dimension", "search"]
    assert math.isnan(missing.value)
    assert "came to 0.750 of 0.900 in dimension 12 of 12, after 60 steps" in missing.why
    assert found["search_steps", "search"].value == 60
    assert isinstance(run.outcomes["half"], Missing)


def test_a_given_reference_trains_nothing(search):
    run = search(reference=0.2, verify=False)
    assert isinstance(run.outcomes["reference"], Missing)
    assert run.outcomes["search"].target == pytest.approx(0.18)
    assert run.outcomes["search"].dimension == 4
    assert isinstance(run.outcomes["half"], Missing)


def test_an_optimizer_that_mixes_coordinates_stays_in_the_subspace(search):
    """With θ₀ = 0 the levels beyond d stay at 0, which is no example's class."""
    run = search(optimizer=Mixing(), reference=1.0, every=60, first=4, verify=False)
    assert run.outcomes["search"].best == 4 / 16


def test_the_sketch_has_to_have_the_first_dimension(search):
    with pytest.raises(ValueError, match="first 65 is more than 64, the D of 'test-aligned'"):
        search(first=65)


def test_a_loss_that_is_not_finite_ends_the_search(search, sgd):
    with pytest.raises(Diverged, match=r"the loss is (inf|nan) at step \d+, dimension"):
        search(optimizer=sgd(lr=1e30), reference=1.0, every=1000)


def test_the_whole_model_may_have_an_optimizer_of_its_own(search, sgd):
    """At a rate of 0 it stays at level 0, which is no example's class: τ is 0, and reached."""
    run = search(reference_optimizer=sgd(lr=0.0), verify=False)
    assert run.outcomes["search"].full == 0.0
    assert run.outcomes["search"].steps == 5


def test_two_references_are_refused(search, sgd):
    with pytest.raises(ValidationError, match="reference 0.9 is given"):
        search(reference=0.9, reference_optimizer=sgd())


# ---------------------------------------------------------------- the compression bound


def test_codes_are_of_rounded_numbers_and_wide_ones_lose_nothing(search):
    outcome = search(verify=False).outcomes["compression"]()
    assert outcome.examples == 16
    assert outcome.chance == pytest.approx(0.9)
    assert outcome.bits == tuple(16 * w + 32 + 3 + 3 for w in WIDTHS)  # d is of 2, 4, …, 64
    assert outcome.errors[-1] == 0.0
    assert outcome.errors[0] > 0.5


@pytest.mark.parametrize("bits", WIDTHS)
def test_numbers_are_rounded_to_the_nearest_of_as_many_as_the_bits_tell(bits):
    omega = torch.randn(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = quantised(omega, bits)
    assert len(found.unique()) <= 2**bits
    largest = omega.abs().max()
    assert ((found - omega).abs() <= largest / (2**bits - 1) * (1 + 1e-12)).all()
    assert torch.equal(quantised(torch.zeros(3), bits), torch.zeros(3))


def test_all_codes_together_have_a_probability_of_at_most_one():
    dimensions = [16, 32, 64, 128, 200]
    total = sum(
        2.0 ** (d * w + 32 - code_bits(d, w, len(dimensions))) for d in dimensions for w in WIDTHS
    )
    assert 0.5 < total <= 1


def test_the_bound_has_its_closed_forms():
    budget = 50 * math.log(2) + math.log(20)
    without_error = Compressed((50,), (0.0,), 1000, 0.9)
    assert without_error.bound(0.95) == pytest.approx(1 - math.exp(-budget / 1000), rel=1e-9)
    p = Compressed((50,), (0.2,), 1000, 0.9).bound(0.95)
    divergence = 0.2 * math.log(0.2 / p) + 0.8 * math.log(0.8 / (1 - p))
    assert divergence == pytest.approx(budget / 1000, rel=1e-9)
    assert 0.2 < p <= 0.2 + math.sqrt(budget / 2000)  # Pinsker's inequality
    assert Compressed((10**7,), (0.0,), 1000, 0.9).bound(0.95) == pytest.approx(1.0)


def test_the_best_code_counts_and_vacuous_is_one_of_guessing():
    outcome = Compressed((50, 400), (0.3, 0.0), 1000, 0.9)
    alone = [Compressed((b,), (e,), 1000, 0.9).bound(0.95) for b, e in ((50, 0.3), (400, 0.0))]
    assert CompressionBound()(outcome) == min(alone)
    relative = CompressionBound(over_guessing=True)(outcome)
    assert relative == pytest.approx(min(alone) / 0.9)
    with pytest.raises(Missing, match="no code"):
        Compressed((), (), 1000, 0.9).bound(0.95)


def test_it_looks_after_the_last_step(search):
    run = search([Wanted(Accuracy(), "test")], epochs=3, every=5, first=16, verify=False)
    assert values(run)["accuracy", "test"].at == [0, 3]
    assert run.outcomes["search"].steps == 3
