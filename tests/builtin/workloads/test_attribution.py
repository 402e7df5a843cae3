"""Attribution: gradients of closed form, layers, subsets."""

import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from sketchbench import GradientSketch, Missing
from sketchbench.builtin import MLP, Attribution, BuildTime, Digits, Pearson, StepTime, Train
from sketchbench.builtin.workloads.datamodel import whitened
from sketchbench.builtin.workloads.fitting import fit
from sketchbench.run import Run, Wanted

CPU = torch.device("cpu")


class Identity(GradientSketch):
    """The sketch that leaves everything as it is."""

    name = "test-identity"

    def build(self, size, rng, device):
        return Rows(torch.eye(size))


class First(GradientSketch):
    """One parameter's gradient, the first, by its name."""

    name = "test-first"

    def build(self, size, rng, device):
        raise AssertionError("names are to be given")

    def build_named(self, sizes, rng, device):
        assert list(sizes) == ["1.0.weight", "1.0.bias", "2.weight", "2.bias"]
        return Rows(torch.eye(sum(sizes.values()))[: sizes["1.0.weight"]])


class Dense(GradientSketch):
    """Gaussian entries."""

    name = "test-dense"

    def build(self, size, rng, device):
        return Rows(torch.randn(400, size, generator=rng) / math.sqrt(400))


class Rows:
    def __init__(self, matrix):
        self.matrix, self.shape = matrix, tuple(matrix.shape)

    def apply(self, x):
        return x @ self.matrix.mT


class Kept(Run):
    def __init__(self, seed=0, wanted=()):
        super().__init__(CPU, seed, wanted)
        self.outcomes = {}

    def deliver(self, name, outcome, at=None):
        super().deliver(name, outcome, at)
        self.outcomes[name] = outcome


@pytest.fixture
def made(sgd):
    def make(**fields):
        given = {"task": Digits(train_limit=120, test_limit=40), "model": MLP(hidden=(8,))}
        given |= {"optimizer": sgd(lr=0.05), "epochs": 2, "batch_size": 30, "sketch": None}
        given |= {"examples": 12, "tests": 5, "chunk": 5}
        return Attribution(**(given | fields))

    return make


@pytest.fixture
def ran(made):
    def run(seed=0, wanted=(), **fields):
        kept = Kept(seed, wanted)
        made(**fields).run(kept)
        return kept

    return run


def drawn(run, workload):
    """Return the tests and the examples, drawn by hand."""
    found = []
    for split, count, purpose in (
        ("test", workload.tests, "tests"),
        ("train", workload.examples, "examples"),
    ):
        data = workload.task.load(split)
        chosen = torch.randperm(len(data.targets), generator=run.rng(purpose))[:count]
        found.append((data.inputs[chosen], data.targets[chosen]))
    return found


def test_inner_products_of_a_linear_model_have_their_closed_form(made):
    """The gradient of softmax regression is (p − y) ⊗ (x, 1)."""
    workload, run = made(model=MLP(hidden=())), Kept()
    workload.run(run)
    sides = []
    for inputs, targets in drawn(run, workload):
        with torch.no_grad():
            p = run.watched.model(inputs).double().softmax(1)
        sides.append((p - F.one_hot(targets, 10), inputs.flatten(1).double()))
    (left, x), (right, z) = sides
    expected = (left @ right.mT) * (x @ z.mT + 1)
    found = run.outcomes["pairs"]
    # the gradients are float32: each product is off by their rounding, some ulps of the norms'
    scale = 64 * torch.finfo(torch.float32).eps * expected.abs().max().item()
    torch.testing.assert_close(found.exact[0], expected, rtol=0, atol=scale)
    assert found.approx.shape == (1, 5, 12)
    assert list(run.outcomes["layers"].within) == ["1"]


def test_inner_products_are_those_of_gradients_got_one_by_one(made):
    workload, run = made(), Kept()
    workload.run(run)
    model = run.watched.model
    rows = []
    for inputs, targets in drawn(run, workload):
        for x, y in zip(inputs, targets, strict=True):
            loss = F.cross_entropy(model(x[None]), y[None])
            rows.append(
                [g.flatten().double() for g in torch.autograd.grad(loss, model.parameters())]
            )
    layers = {"1.0": (0, 1), "2": (2, 3)}
    found = run.outcomes["layers"]
    assert list(found.within) == list(layers)
    for name, which in layers.items():
        own = torch.stack([torch.cat([row[i] for i in which]) for row in rows])
        torch.testing.assert_close(found.within[name], own[:5] @ own[5:].mT, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.exact, sum(found.within.values()))


def test_an_identity_keeps_every_inner_product(ran):
    pairs = ran(sketch=Identity()).outcomes["pairs"]
    torch.testing.assert_close(pairs.approx, pairs.exact, rtol=1e-5, atol=1e-7)
    assert Pearson()(pairs) == pytest.approx(1.0, abs=1e-9)


def test_a_sketch_gets_the_names_and_may_keep_one_parameter_only(made):
    """A linear layer's gradient is δ ⊗ (x, 1): without the bias ⟨x, z⟩/(⟨x, z⟩ + 1) of it stays."""
    workload, run = made(sketch=First()), Kept()
    workload.run(run)
    x, z = (inputs.flatten(1).double() for inputs, _ in drawn(run, workload))
    whole = run.outcomes["layers"].within["1.0"]
    expected = whole * (x @ z.mT) / (x @ z.mT + 1)
    torch.testing.assert_close(run.outcomes["pairs"].approx[0], expected, rtol=1e-3, atol=1e-6)


def test_draws_are_independent_sketches_of_the_same_pairs(ran):
    pairs = ran(sketch=Dense(), draws=2).outcomes["pairs"]
    assert pairs.exact.shape == pairs.approx.shape == (2, 5, 12)
    assert torch.equal(pairs.exact[0], pairs.exact[1])
    assert not torch.equal(pairs.approx[0], pairs.approx[1])


def test_chunks_change_nothing(ran):
    one, other = (ran(sketch=Dense(), chunk=chunk).outcomes["pairs"] for chunk in (3, 64))
    torch.testing.assert_close(one.approx, other.approx, rtol=1e-4, atol=1e-6)


def test_regions_are_timed_and_there_is_no_datamodel_without_subsets(ran):
    run = ran(sketch=Dense(), wanted=[Wanted(BuildTime(), "build"), Wanted(StepTime(), "step")])
    assert {m.where for m in run.measurements()} == {"build", "step"}
    assert isinstance(run.outcomes["datamodel"], Missing)


def test_training_is_that_of_the_workload_train(made, sgd):
    workload, run, plain = made(batching="full", epochs=3), Kept(), Run(CPU, 0)
    workload.run(run)
    fields = {"task": workload.task, "model": workload.model, "optimizer": sgd(lr=0.05)}
    Train(**fields, batching="full", epochs=3).run(plain)
    for one, other in zip(
        run.watched.model.parameters(), plain.watched.model.parameters(), strict=True
    ):
        assert torch.equal(one, other)


def test_fitting_some_examples_is_fitting_a_split_of_them(made):
    workload = made(batch_size=7)
    data = workload.task.load("train")
    chosen = torch.arange(0, 120, 3)
    models = []
    for split, positions in (
        (data, chosen),
        (type(data)(data.inputs[chosen], data.targets[chosen]), None),
    ):
        torch.manual_seed(0)
        models.append(workload.model.build(workload.task.shapes))
        fit(workload, models[-1], split, Kept(), chosen=positions)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)


def test_subsets_are_retrained_and_scored(ran):
    fields = {"examples": None, "subsets": 4, "subset_share": 0.25}
    exact = ran(**fields).outcomes["datamodel"]
    assert exact.members.shape == (4, 120)
    assert exact.losses.shape == (4, 5)
    assert (exact.members.sum(1) == 30).all()
    assert len(exact.losses.unique(dim=0)) == 4
    same = ran(**fields, sketch=Identity()).outcomes["datamodel"]
    assert torch.equal(exact.members, same.members)
    assert torch.equal(exact.losses, same.losses)
    for name in ("dot", "whitened"):
        assert exact.scores[name].shape == (1, 5, 120)
        torch.testing.assert_close(exact.scores[name], same.scores[name], rtol=1e-3, atol=1e-5)


def test_whitened_scores_are_those_of_the_feature_covariance():
    rng = torch.Generator().manual_seed(0)
    train = torch.randn(20, 6, generator=rng, dtype=torch.float64)
    test = torch.randn(3, 6, generator=rng, dtype=torch.float64)
    scale = 0.2 * (train @ train.mT).diagonal().mean()
    kernel = torch.linalg.inv(train.mT @ train + scale * torch.eye(6, dtype=torch.float64))
    found = whitened((test @ train.mT)[None], (train @ train.mT)[None], 0.2)[0]
    torch.testing.assert_close(found, test @ kernel @ train.mT)


def test_subsets_of_drawn_examples_are_refused(made):
    with pytest.raises(ValidationError, match=r"set examples to null \(it is 12\)"):
        made(subsets=50)
