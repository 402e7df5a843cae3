import math

import pytest
import torch
from pydantic import ValidationError

from sketchbench import Approximation, Field, GradientSketch
from sketchbench.builtin import BuildTime, Distortion, RelativeError, StepTime
from sketchbench.run import Run, Wanted

CPU = torch.device("cpu")


class Dense(GradientSketch):
    """Gaussian entries of variance 1/D."""

    name = "test-dense"
    out_size: int = Field(16)

    def build(self, size, rng, device):
        return _Dense(torch.randn(self.out_size, size, generator=rng) / math.sqrt(self.out_size))


class _Dense:
    def __init__(self, matrix):
        self.matrix = matrix
        self.shape = tuple(matrix.shape)

    def apply(self, x):
        return x @ self.matrix.mT


class Scripted(Run):
    def __init__(self, seed=0, wanted=()):
        super().__init__(CPU, seed, wanted)
        self.delivered = {}

    def deliver(self, name, outcome, at=None):
        super().deliver(name, outcome, at)
        self.delivered[name] = outcome


def delivered(seed=0, **fields):
    run = Scripted(seed)
    Distortion(**({"sketch": Dense(), "size": 200, "vectors": 4, "repeats": 800} | fields)).run(run)
    return run.delivered


@pytest.mark.parametrize("directions", ["gaussian", "spike"])
def test_a_dense_sketch_is_unbiased_with_the_variance_of_its_theory(directions):
    # Var⟨Sx, Sy⟩ = (‖x‖²‖y‖² + ⟨x, y⟩²) / D for Gaussian entries of variance 1/D; y = x for norms.
    outcomes = delivered(directions=directions)
    for found in (outcomes["norms"], outcomes["inner"]):
        spread = ((1 + found.exact**2) / 16).sqrt()
        error = (found.approx - found.exact).mean(0).abs()
        assert (error < 4.5 * spread[0] / math.sqrt(800)).all()
        ratio = (found.approx - found.exact).square().mean(0) / spread[0].square()
        assert ((ratio - 1).abs() < 0.3).all()


@pytest.mark.parametrize("directions", ["gaussian", "spike"])
@pytest.mark.parametrize("vectors", [2, 8, 48])
def test_relative_errors_are_those_of_theory_for_any_number_of_vectors(directions, vectors):
    found = delivered(directions=directions, vectors=vectors, size=1000)
    # √((1 + cos²)/(D cos²)). An error is a mean of 16 products of kurtosis 15 at most: its own is
    # 3.75, and the root of a mean of 800 squares is off by 4.5·√(2.75/800)/2 = 13 % (one pair is
    # the worst). A cosine is off by 0.65/√1000, which adds 3 %.
    for name, expected in (("norms", math.sqrt(2 / 16)), ("inner", math.sqrt(5 / 16))):
        assert RelativeError()(found[name]) == pytest.approx(expected, rel=0.16), name


def test_norms_are_those_of_every_vector():
    norms = delivered(repeats=3)["norms"]
    assert isinstance(norms, Approximation)
    assert norms.exact.shape == norms.approx.shape == (3, 4)
    torch.testing.assert_close(norms.exact, torch.ones(3, 4, dtype=torch.double), rtol=1e-6, atol=0)


def test_inner_products_are_those_of_vectors_at_60_degrees():
    """Truth: the vectors and the sketch, built by hand."""
    run, workload = Scripted(), Distortion(sketch=Dense(), size=500, vectors=4, repeats=1)
    workload.run(run)
    found = run.delivered["inner"]
    assert found.exact.shape == found.approx.shape == (1, 6)
    x = run.watched.inputs[0].double()
    s = Dense().build(500, run.rng("sketch/0"), CPU).matrix.double()
    pairs = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    for pair, (i, j) in enumerate(pairs):
        y = torch.nn.functional.normalize(x[i] + math.sqrt(3) * x[j], dim=0)
        inner, sketched = (x[i] @ y).item(), ((s @ x[i]) @ (s @ y)).item()
        assert found.exact[0, pair].item() == pytest.approx(inner, rel=1e-6)
        assert found.approx[0, pair].item() == pytest.approx(sketched, rel=1e-4)
    assert (found.exact - 0.5).abs().max() < 4 / math.sqrt(500)


def test_spikes_are_distinct_axes():
    run = Scripted()
    Distortion(sketch=Dense(), size=4, vectors=4, repeats=1, directions="spike").run(run)
    vectors = run.watched.inputs[0]
    assert torch.equal(vectors @ vectors.mT, torch.eye(4))
    assert (run.delivered["inner"].exact - 0.5).abs().max() < 1e-15


def test_every_draw_is_another_sketch_and_every_seed_other_vectors():
    once, again, other = (delivered(seed, repeats=2)["inner"] for seed in (0, 0, 1))
    assert torch.equal(once.approx, again.approx)
    assert not torch.equal(once.approx[0], once.approx[1])
    assert not torch.equal(once.exact, other.exact)


def test_both_regions_are_timed_and_both_outcomes_scored():
    wanted = [
        Wanted(BuildTime(), "build"),
        Wanted(StepTime(), "step"),
        Wanted(RelativeError(), "norms"),
        Wanted(RelativeError(), "inner"),
    ]
    run = Run(CPU, 0, wanted)
    Distortion(sketch=Dense(), size=100, vectors=2, repeats=6).run(run)
    found = {(m.metric, m.where): m for m in run.measurements()}
    assert set(found) == {
        ("build_time", "build"),
        ("step_time", "step"),
        ("relative_error", "norms"),
        ("relative_error", "inner"),
    }
    assert found["step_time", "step"].parts["occurrences"] == 4


def test_more_axes_than_coordinates_are_refused():
    with pytest.raises(ValidationError, match="5 distinct axes need a size of at least that"):
        Distortion(sketch=Dense(), size=4, vectors=5, directions="spike")
