"""Reconstruction: matrices of known spectra, recovered through the public protocol alone."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from sketchbench import ActivationSketch, Field, Missing, Reconstructed
from sketchbench.autodiff import Plain, linear_layers, replaced
from sketchbench.builtin import (
    Reconstruction,
    ReconstructionError,
    SettlingSteps,
    StepTime,
    TailRatio,
)
from sketchbench.run import Run, Wanted

CPU = torch.device("cpu")
SPECTRA = ("power", "power2", "exponential", "low-rank-noise", "flat")


class Kept(torch.autograd.Function):
    """x, W ↦ xWᵀ with dW = δᵀÂ."""

    @staticmethod
    def forward(ctx, x, weight, instead):
        ctx.save_for_backward(instead)
        return x @ weight.mT

    @staticmethod
    def backward(ctx, delta):
        (instead,) = ctx.saved_tensors
        return None, delta.mT @ instead, None


class Instead(nn.Module):
    """A linear layer that keeps a function of its input and of what it kept before."""

    def __init__(self, linear, function):
        super().__init__()
        self.weight, self.function, self.kept = linear.weight, function, None

    def forward(self, x):
        SEEN.append(x)
        self.kept = self.function(x, self.kept)
        return Kept.apply(x, self.weight, self.kept)


class Best(ActivationSketch):
    """The best approximation of some rank, or an EMA."""

    name = "test-best"
    rank: int = Field(0)
    beta: float = Field(0.0)

    def build(self, model, batch_size, rng):
        (name,) = linear_layers(model, "all")
        return Plain(replaced(model, {name: Instead(model.get_submodule(name), self.keep)}))

    def keep(self, x, before):
        if self.rank:
            u, s, v = torch.linalg.svd(x, full_matrices=False)
            x = (u[:, : self.rank] * s[: self.rank]) @ v[: self.rank]
        return x if before is None else torch.lerp(x, before, self.beta)


SEEN = []


class Scripted(Run):
    def __init__(self, seed=0, wanted=()):
        super().__init__(CPU, seed, wanted)
        self.curve = []

    def deliver(self, name, outcome, at=None):
        super().deliver(name, outcome, at)
        self.curve.append((at, outcome))


def delivered(activation, seed=0, **fields):
    SEEN.clear()
    run = Scripted(seed)
    sizes = {"rows": 24, "width": 40, "repeats": 2}
    Reconstruction(activation=activation, **(sizes | fields)).run(run)
    return run.curve


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_matrix_has_the_spectrum_that_was_asked_for(spectrum):
    delivered(Best(), spectrum=spectrum)
    found = torch.linalg.svdvals(SEEN[0].double())
    i = torch.arange(1, 25, dtype=torch.double)
    expected = {
        "power": 1 / i,
        "power2": 1 / i**2,
        "exponential": 10 ** (-0.25 * (i - 1)),
        "low-rank-noise": torch.where(i <= 5, 1.0, 0.01).double(),
        "flat": torch.ones(24).double(),
    }[spectrum]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)  # rounded to float32


def test_an_exact_sketch_has_no_error():
    ((at, outcome),) = delivered(Best())
    assert at == 1
    assert TailRatio()(outcome) < 1e-6
    assert outcome.norm == pytest.approx(math.sqrt(sum(1 / i**2 for i in range(1, 25))))


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("rank", [1, 4])
def test_the_best_approximation_of_rank_r_has_the_ratio_one(spectrum, rank):
    ((_, outcome),) = delivered(Best(rank=rank), spectrum=spectrum, rank=rank)
    for over in ("rms", "median", "max"):
        assert TailRatio(over=over)(outcome) == pytest.approx(1, rel=1e-4)


def test_scores_take_what_they_say_of_the_errors():
    outcome = Reconstructed(torch.tensor([1.0, 2.0, 10.0]), 5.0, 2.0)
    assert TailRatio()(outcome) == pytest.approx(math.sqrt(105 / 3) / 2)
    assert TailRatio(over="median")(outcome) == 1
    assert TailRatio(over="max")(outcome) == 5
    assert ReconstructionError()(outcome) == pytest.approx(math.sqrt(105 / 3) / 5)


@pytest.mark.parametrize("over", ["rms", "median", "max"])
@pytest.mark.parametrize(
    ("error", "tail", "told"),
    [
        (1.0, 0.0, "the matrix's tail, which is 0"),
        (0.0, 0.0, "the matrix's tail, which is 0"),
        (1.0, math.nan, "the matrix's tail, which is nan"),
        (math.nan, 1.0, "the error of the reconstruction is nan"),
    ],
)
def test_a_ratio_that_is_no_number_is_missing(over, error, tail, told):
    with pytest.raises(Missing, match=told):
        TailRatio(over=over)(Reconstructed(torch.tensor([error, 1.0, error]), 5.0, tail))


def test_micro_batches_add_up_to_the_whole_matrix():
    from sketchbench_dense import MicroBatch

    ((_, outcome),) = delivered(MicroBatch(rows=7))
    assert ReconstructionError()(outcome) < 1e-6


def test_the_zero_gradient_has_the_norm_as_its_error():
    from sketchbench_dense import ZeroGradient

    ((_, outcome),) = delivered(ZeroGradient())
    assert ReconstructionError()(outcome) == pytest.approx(1, rel=1e-6)


def test_an_ema_forgets_the_old_matrix_at_its_own_rate():
    """Truth: the EMA of a step from A to B is off by β^t·‖A − B‖ after t steps."""
    curve = delivered(Best(beta=0.5), steps=9, change_after=2)
    assert [at for at, _ in curve] == list(range(1, 10))
    before, after = SEEN[1], SEEN[2]
    assert torch.equal(SEEN[0], before)
    assert torch.equal(after, SEEN[8])
    assert not torch.equal(before, after)
    gap = (before - after).double().norm().item()
    for at, outcome in curve:
        expected = 0 if at <= 2 else 0.5 ** (at - 2) * gap
        assert outcome.errors.tolist() == pytest.approx([expected] * 2, rel=1e-4, abs=1e-5)
    torch.testing.assert_close(torch.linalg.svdvals(after), torch.linalg.svdvals(before))


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.8])
def test_settling_takes_as_long_as_the_memory(beta):
    """Truth: errors are β^t gaps, in the end 0; β^t ≤ β/10 from t = 1 + ⌈ln 10 / ln 1/β⌉ on."""
    run = Scripted(wanted=[Wanted(ReconstructionError(), "reconstruction")])
    fields = {"rows": 24, "width": 40, "repeats": 1, "steps": 60, "change_after": 3}
    Reconstruction(activation=Best(beta=beta), **fields).run(run)
    (measured,) = run.measurements()

    class Cell:
        def curve(self, metric, where=None):
            return list(zip(measured.at, measured.samples, measured.seconds, strict=True))

    expected = 1 if not beta else 1 + math.ceil(math.log(10) / math.log(1 / beta))
    assert SettlingSteps(after=3).derive(Cell()) == expected


def test_seeds_are_other_matrices_and_draws_other_sketches():
    from sketchbench_dense import RandomGradient

    (once,), (again,), (other,) = (delivered(RandomGradient(), seed) for seed in (0, 0, 1))
    assert torch.equal(once[1].errors, again[1].errors)
    assert once[1].errors[0] != once[1].errors[1]
    assert not torch.equal(once[1].errors, other[1].errors)


def test_both_regions_are_timed():
    run = Run(CPU, 0, [Wanted(StepTime(), "step"), Wanted(TailRatio(), "reconstruction")])
    Reconstruction(activation=Best(), rows=8, width=8, repeats=5, steps=2).run(run)
    found = {m.metric: m for m in run.measurements()}
    assert found["step_time"].parts["occurrences"] == 8
    assert found["tail_ratio"].at == [1, 2]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"rows": 8, "rank": 8}, "rank 8 leaves no tail"),
        ({"steps": 3, "change_after": 3}, "change_after 3 must be below steps 3"),
    ],
)
def test_what_cannot_be_measured_is_refused(fields, told):
    with pytest.raises(ValidationError, match=told):
        Reconstruction(activation=Best(), **fields)
