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
    found = delivered(directions=directions)
    inner = found["inner"]
    # Var⟨Sx, Sy⟩ = (‖x‖²‖y‖² + ⟨x, y⟩²) / D for Gaussian entries of variance 1/D.
    spread = ((1 + inner.exact**2) / 16).sqrt()
    error = (inner.approx - inner.exact).mean(0).abs()
    assert (error < 4.5 * spread[0] / math.sqrt(800)).all()
    ratio = (inner.approx - inner.exact).square().mean(0) / spread[0].square()
    assert ((ratio - 1).abs() < 0.3).all()


def test_norms_are_the_squares_on_the_diagonal():
    found = delivered(repeats=3)
    norms, inner = found["norms"], found["inner"]
    assert isinstance(norms, Approximation)
    assert norms.exact.shape == norms.approx.shape == (3, 4)
    assert inner.exact.shape == inner.approx.shape == (3, 4, 4)
    torch.testing.assert_close(norms.exact, torch.ones(3, 4, dtype=torch.double), rtol=1e-6, atol=0)
    assert torch.equal(norms.approx, inner.approx.diagonal(dim1=1, dim2=2))


def test_spikes_are_distinct_axes():
    inner = delivered(repeats=1, directions="spike", size=4)["inner"]
    assert torch.equal(inner.exact[0], torch.eye(4, dtype=torch.double))


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
