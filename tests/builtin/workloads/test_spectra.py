"""Factors of gradients: their definition, their spectra against closed forms, their rotation."""

import math

import pytest
import torch

from sketchbench import Diverged, Skip
from sketchbench.builtin import (
    GPT,
    MLP,
    Digits,
    GaussianControl,
    HybridCNN,
    IntrinsicDimension,
    Loss,
    SpectrumProbe,
    Train,
    ViT,
)
from sketchbench.builtin.tasks.tokens import RandomTokens
from sketchbench.builtin.workloads.factors import Factor, FactorSpectra
from sketchbench.run import Run, Wanted

CPU = torch.device("cpu")
PAPER = {1: (324.63, 0.52), 64: (862.13, 0.25)}  # d = 1024: mean and its standard error
TRACY_WIDOM = (-1.2065, 1.2680)  # mean and deviation of the real ensemble's law


class Kept(Run):
    """A run that keeps the outcomes and, at each step, the model's gradients."""

    def __init__(self, seed=0, wanted=()):
        super().__init__(CPU, seed, wanted)
        self.outcomes, self.gradients = [], []

    def deliver(self, name, outcome, at=None):
        super().deliver(name, outcome, at)
        if isinstance(outcome, FactorSpectra):
            self.outcomes.append((at, outcome))

    def region(self, name):
        return _Noting(self, super().region(name))


class _Noting:
    def __init__(self, run, region):
        self.run, self.region = run, region

    def __enter__(self):
        self.region.__enter__()

    def __exit__(self, *error):
        self.region.__exit__(*error)
        if model := self.run.watched.model:
            found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
            self.run.gradients.append(found)


@pytest.fixture
def probed(sgd):
    def probe(lr=0.05, wanted=(), **fields):
        run = Kept(wanted=wanted)
        given = {"task": Digits(train_limit=200), "model": MLP(hidden=(16,)), "epochs": 2}
        given |= {"optimizer": sgd(lr=lr), "batch_size": 50, "leading": 4}
        SpectrumProbe(**(given | fields)).run(run)
        return run

    return probe


def test_training_is_that_of_the_workload_train(probed, sgd):
    run, plain = probed(), Run(CPU, 0)
    task, model = Digits(train_limit=200), MLP(hidden=(16,))
    Train(task=task, model=model, optimizer=sgd(lr=0.05), epochs=2, batch_size=50).run(plain)
    for one, other in zip(
        run.watched.model.parameters(), plain.watched.model.parameters(), strict=True
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("beta2", [0.7, 1.0])
def test_factors_are_the_decayed_sums_of_both_sides(probed, beta2):
    run = probed(beta2=beta2, checkpoints=1)
    at, found = run.outcomes[-1]
    assert at == len(run.gradients) == 8
    for name, values in zip(found.names, found.values, strict=True):
        parameter, side = name.split()
        grads = [g[parameter].double() for g in run.gradients]
        grads = grads if side == "L" else [g.mT for g in grads]
        factor = sum(beta2 ** (7 - t) * g @ g.mT for t, g in enumerate(grads))
        expected = torch.linalg.eigvalsh(factor).flip(0)
        bound = 8 * 64 * torch.finfo(torch.float32).eps * expected[0].item()
        torch.testing.assert_close(values, expected, rtol=0, atol=bound)


def test_both_sides_of_one_gradient_have_the_intrinsic_dimension_of_the_gradient(probed):
    """With frozen weights and the full batch G stays: tr/λ₁ is ‖G‖_F² / ‖G‖₂², whatever β₂."""
    run = probed(lr=0.0, batching="full", epochs=3, checkpoints=1)
    found = run.outcomes[-1][1].intrinsic()
    for name in ("1.0.weight", "2.weight"):
        gradient = run.gradients[0][name].double()
        expected = (gradient.norm() / torch.linalg.matrix_norm(gradient, 2)).square().item()
        assert found[f"{name} L"] == pytest.approx(expected, rel=1e-4)
        assert found[f"{name} R"] == pytest.approx(expected, rel=1e-4)


def test_a_gradient_that_stays_does_not_rotate(probed):
    run = probed(lr=0.0, batching="full", epochs=4, checkpoints=2)
    (_, first), (_, second) = run.outcomes
    assert all(math.isnan(value) for value in first.rotation)
    assert max(second.rotation) < 1e-6


def test_kernels_are_flattened_and_large_matrices_passed_over(probed):
    run = probed(model=HybridCNN(), epochs=1, max_size=600, checkpoints=1)
    sizes = dict(zip(run.outcomes[0][1].names, run.outcomes[0][1].values, strict=True))
    assert {name: len(values) for name, values in sizes.items()} == {
        **{"0.0.weight L": 32, "0.0.weight R": 9, "1.0.weight L": 64, "1.0.weight R": 288},
        **{"3.0.weight L": 512, "3.0.weight R": 256, "4.0.weight L": 512, "4.0.weight R": 512},
        **{"5.weight L": 10, "5.weight R": 512},
    }
    smaller = probed(model=HybridCNN(), epochs=1, max_size=100, checkpoints=1)
    assert smaller.outcomes[0][1].names == ("0.0.weight L", "0.0.weight R")


def test_a_kernels_factor_is_that_of_its_flattened_gradient(probed):
    run = probed(model=HybridCNN(), epochs=1, max_size=100, beta2=1.0, checkpoints=1)
    grads = [g["0.0.weight"].reshape(32, 9).double() for g in run.gradients]
    expected = torch.linalg.eigvalsh(sum(g.mT @ g for g in grads)).flip(0)
    found = run.outcomes[0][1].values[1]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * expected[0].item())


def test_transformers_and_their_embeddings_are_followed(probed):
    run = probed(model=ViT(layers=1, width=8, heads=2), epochs=1, checkpoints=1)
    assert {"0.projection.weight L", "0.positions R", "1.attention.qkv.weight L"} < set(
        run.outcomes[0][1].names
    )


def test_a_model_without_such_matrices_is_skipped(probed):
    with pytest.raises(Skip, match="no matrix with sides up to 2"):
        probed(max_size=2)


def test_checkpoints_are_evenly_spaced_and_the_last_is_the_end(probed):
    assert [at for at, _ in probed(epochs=3, checkpoints=4).outcomes] == [3, 6, 9, 12]


def test_events_tell_every_factors_numbers(probed):
    run = probed()
    told = {e["what"]: e for e in run.events if e["at"] == 8}
    spectra = run.outcomes[-1][1]
    assert told["intrinsic dimension"]["2.weight L"] == spectra.intrinsic()["2.weight L"]
    assert told["mass of the leading 4"]["2.weight L"] == spectra.mass(4)["2.weight L"]
    assert told["rotation since the last checkpoint"]["2.weight L"] >= 0
    assert told["checkpoint"]["train_loss"] > 0


def test_predictions_are_scored_at_checkpoints(probed):
    run = probed(wanted=[Wanted(Loss(), "test"), Wanted(IntrinsicDimension(), "factors")])
    loss, dimension = run.measurements()
    assert loss.at == dimension.at == [2, 4, 6, 8]
    assert dimension.value >= 1


def test_a_diverging_loss_is_told(probed):
    with pytest.raises(Diverged, match="training loss is"):
        probed(lr=1e30)


def test_tokens_are_trained_on_as_well(probed):
    task = RandomTokens(examples=40, context=6, vocabulary=11)
    run = probed(task=task, model=GPT(layers=1, width=8, heads=2), epochs=1, batch_size=10)
    assert "0.tokens.weight L" in run.outcomes[-1][1].names


# ---------------------------------------------------------------- one factor


def looked(*spaces, leading=1):
    """Look at a factor that holds the span of each (d, n) in turn."""
    factor, found = Factor(len(spaces[0]), leading, CPU), []
    for space in spaces:
        factor.absorb(space, 0.0)
        found.append(factor.look())
    return found


@pytest.mark.parametrize("angle", [0.0, 0.3, math.pi / 2])
def test_rotation_is_the_sine_squared_of_a_lines_angle(angle):
    before = torch.tensor([[1.0], [0.0], [0.0]])
    after = torch.tensor([[math.cos(angle)], [math.sin(angle)], [0.0]])
    (_, first), (_, second) = looked(before, after)
    assert math.isnan(first)
    assert second == pytest.approx(math.sin(angle) ** 2, abs=1e-6)


def test_rotation_is_of_spaces_whatever_their_basis():
    eye = torch.eye(4)
    (_, _), (_, same), (_, half), (_, all_of_it) = looked(
        eye[:, :2], eye[:, [1, 0]] * 3, eye[:, 1:3], eye[:, [0, 3]], leading=2
    )
    assert (same, half, all_of_it) == pytest.approx((0, 0.5, 1), abs=1e-6)


def test_of_a_rank_below_the_leading_there_is_no_rotation():
    eye = torch.eye(4)
    assert all(math.isnan(r) for _, r in looked(eye[:, :1], eye[:, :1], leading=2))
    assert all(math.isnan(r) for _, r in looked(eye, eye, leading=4))


def test_a_factor_that_is_not_finite_is_told():
    with pytest.raises(Diverged, match="a factor of the gradients is not finite"):
        looked(torch.full((3, 2), 1e30))


def test_a_factor_of_zeros_has_no_dimension():
    (values, _) = looked(torch.zeros(3, 2))[0]
    spectra = FactorSpectra(("a",), (values,), (math.nan,), 1)
    assert math.isnan(spectra.intrinsic()["a"])
    assert math.isnan(spectra.mass(1)["a"])


# ---------------------------------------------------------------- the Gaussian control


def control(seed=0, **fields):
    run = Kept(seed)
    GaussianControl(**({"checkpoints": 1} | fields)).run(run)
    return run.outcomes[-1][1]


def test_draws_taken_in_at_once_are_those_taken_one_by_one():
    spectra = control(size=6, columns=3, beta2=0.9, steps=3000)
    rng, factor, done = Run(CPU, 0).rng("draws"), torch.zeros(6, 6).double(), 0
    while done < 3000:
        count = min(1365, 3000 - done)  # of 4096 columns a block
        for part in torch.randn(6, 3 * count, generator=rng).double().split(3, dim=1):
            factor = 0.9 * factor + part @ part.mT
        done += count
    expected = torch.linalg.eigvalsh(factor).flip(0)
    torch.testing.assert_close(spectra.values[0], expected, rtol=1e-4, atol=1e-4)


def expected_dimension(size, columns, beta2=0.999, steps=10_000):
    """Return mean and deviation of tr/λ₁ of Σ wᵢGᵢGᵢᵀ, wᵢ = βⁱ, for large sizes.

    The edge is the least z(u) = d/u + c·Σ w/(1 − wu) over 0 < u < 1/max w [Silverstein & Choi
    1995]; λ₁ is off it by Tracy–Widom's law times (z''/2)^⅓ [El Karoui 2007; Lee & Schnelli 2016].
    The trace, of relative deviation √(2/(d·c·1000)) or less, counts as constant.
    """
    weights = beta2 ** torch.arange(steps, dtype=torch.float64)

    def edge(u):
        return size / u + columns * float((weights / (1 - weights * u)).sum())

    low, high = 1e-9, 1 - 1e-12
    for _ in range(200):  # z is convex: the least of it by thirds
        third = (high - low) / 3
        left, right = low + third, high - third
        low, high = (low, right) if edge(left) < edge(right) else (left, high)
    second = 2 * size / low**3 + 2 * columns * float((weights / (1 - weights * low)).pow(3).sum())
    scale, trace = (second / 2) ** (1 / 3), size * columns * float(weights.sum())
    mean = trace / (edge(low) + TRACY_WIDOM[0] * scale)
    return mean, mean * TRACY_WIDOM[1] * scale / edge(low)


@pytest.mark.parametrize("columns", PAPER)
def test_the_closed_form_is_what_the_paper_measured(columns):
    mean, deviation = expected_dimension(1024, columns)
    found, error = PAPER[columns]
    assert abs(mean - found) < 4 * error  # of a deviation of 2.5 and 0.94: some 20 repeats
    assert deviation > error


@pytest.mark.parametrize(("size", "columns", "seeds"), [(128, 1, 8), (64, 8, 8)])
def test_the_control_has_the_dimension_of_the_closed_form(size, columns, seeds):
    mean, deviation = expected_dimension(size, columns)
    found = [control(seed, size=size, columns=columns).intrinsic()["L"] for seed in range(seeds)]
    assert abs(sum(found) / seeds - mean) < 4 * deviation / math.sqrt(seeds)


@pytest.mark.parametrize("columns", [1, pytest.param(64, marks=pytest.mark.nightly)])
def test_at_the_papers_size_the_control_has_the_papers_dimension(columns):
    found = control(size=1024, columns=columns).intrinsic()["L"]
    mean, error = PAPER[columns]
    _, deviation = expected_dimension(1024, columns)
    assert abs(found - mean) < 4 * math.hypot(deviation, error)
