"""The two candidate readings: closed forms, and that they recover nothing."""

import pytest
import torch
from sketchbench_tri_sketch import TriSketch
from sketchbench_tri_sketch.candidates import IN, OUT, WEIGHTS, Candidate
from sketchbench_tri_sketch.probe import reconstruction
from torch import Generator

ROWS, WIDTH, OUTPUTS = 128, 60, 40
CANDIDATES = ["p1", "p2"]


def rng(seed=0):
    return Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def cosine(left, right):
    return float((left * right).sum() / (torch.linalg.norm(left) * torch.linalg.norm(right)))


@pytest.mark.parametrize("which", CANDIDATES)
def test_it_is_the_formula(which):
    matrix, outputs = normal(ROWS, WIDTH), normal(ROWS, OUTPUTS, seed=1)
    reading = Candidate(which, 5, rng(), decay=0.0)
    (x, y, z), _ = reading.keep(matrix, outputs, update=True)
    up, out, between, weights = (
        reading.normal(1 if purpose == WEIGHTS else ROWS, 5, 0, matrix, purpose)
        for purpose in range(4)
    )
    torch.testing.assert_close(x, matrix.mT @ up)
    torch.testing.assert_close(y, outputs.mT @ out)
    torch.testing.assert_close(z, outputs.mT @ between * weights)
    (left, _), (right, upper) = torch.linalg.qr(y), torch.linalg.qr(x)
    core = left.mT @ z @ torch.linalg.inv(upper)
    layer = left @ core @ right.mT
    torch.testing.assert_close(layer @ x, left @ left.mT @ z)  # ĜX ≈ Z, within range(Y)
    lift = out @ torch.linalg.pinv(y) if which == "p1" else torch.linalg.pinv(out).mT @ y.mT
    torch.testing.assert_close(reconstruction(reading, matrix, outputs), lift @ layer)
    assert (IN, OUT) == (0, 1)


@pytest.mark.parametrize("rank", [2, 3])
@pytest.mark.parametrize("which", CANDIDATES)
def test_in_the_ideal_case_it_recovers_nothing(which, rank):
    found = []
    for seed in range(100):  # a linear layer, activations of a rank below k, one batch
        matrix = normal(ROWS, rank, seed=seed) @ normal(rank, WIDTH, seed=seed + 1000)
        outputs = matrix @ normal(WIDTH, OUTPUTS, seed=seed + 2000)
        reading = Candidate(which, 7, rng(seed), decay=0.0)
        found.append(cosine(reconstruction(reading, matrix, outputs), matrix))
    assert abs(torch.tensor(found).median()) < 0.02  # measured: at most 0.015
    assert torch.tensor(found).square().mean() < 0.02  # 1 − the squared error after a best scalar


@pytest.mark.parametrize("which", CANDIDATES)
def test_sketches_of_the_ema_are_the_ema_of_sketches(which):
    decay = 0.95
    batches = [
        (normal(ROWS, WIDTH, seed=s), normal(ROWS, OUTPUTS, seed=s + 500)) for s in range(40)
    ]
    running, means = Candidate(which, 5, rng(), decay), [torch.zeros(())] * 2
    for batch in batches:
        kept, _ = running.keep(*batch, update=True)
        means = [decay * mean + (1 - decay) * part for mean, part in zip(means, batch, strict=True)]
    expected, _ = Candidate(which, 5, rng(), 0.0).keep(*means, update=True)
    for found, wanted in zip(kept, expected, strict=True):
        assert torch.linalg.norm(found - wanted) <= 1e-12 * torch.linalg.norm(wanted)


def test_the_mass_divides_the_sketches():
    matrix, outputs = normal(ROWS, WIDTH), normal(ROWS, OUTPUTS, seed=1)
    first = [
        reconstruction(Candidate("p1", 5, rng(), decay), matrix, outputs) for decay in (0.0, 0.9)
    ]
    torch.testing.assert_close(*first)


@pytest.mark.parametrize("which", CANDIDATES)
def test_dead_units_give_no_nan(which):
    for matrix in (torch.zeros(8, 6), torch.eye(8, 6)):
        found = reconstruction(Candidate(which, 5, rng()), matrix, torch.zeros(8, 4))
        assert found.isfinite().all()


@pytest.mark.parametrize("which", CANDIDATES)
def test_a_layer_narrower_than_the_sketches_is_sketched(which):
    found = reconstruction(Candidate(which, 9, rng()), normal(20, 4), normal(20, 3, seed=1))
    assert found.isfinite().all()
    assert found.shape == (20, 4)


def test_another_rank_starts_anew_and_the_state_dict_knows_it():
    reading, batch = Candidate("p1", 5, rng()), (normal(8, 20), normal(8, 10, seed=1))
    reading.keep(*batch, update=True)
    reading.resize(3)
    assert reading.inputs.total is None
    (x, _, z), mass = reading.keep(*batch, update=True)
    assert (x.shape, z.shape, mass) == ((20, 7), (10, 7), pytest.approx(0.05))
    other = Candidate("p1", 5, rng(1))
    other.load_state_dict(reading.state_dict())
    left, right = (each.keep(*batch, update=True)[0] for each in (reading, other))
    assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_it_needs_the_outputs():
    with pytest.raises(ValueError, match="tri-sketch: its candidates need the layer's outputs"):
        Candidate("p1", 5, rng()).keep(normal(8, 20), None, update=True)


def test_the_recipe_keeps_three_sketches_of_one_size():
    recipe = TriSketch(core="candidate-p2", rank=4, beta=0.95)
    assert recipe.s == recipe.k == 9
    reading = recipe.reading(16, 8, 4, rng())
    assert isinstance(reading, Candidate)
    assert (reading.which, reading.inputs.decay) == ("p2", 0.95)
