"""Averages of activations: exact cases, and the closed form of the EMA's bias."""

import pytest
import torch
from sketchbench_tri_sketch import EMAFull, MeanActivation
from sketchbench_tri_sketch.ema import EMA
from sketchbench_tri_sketch.probe import reconstruction
from torch import Generator


def rng(seed=0):
    return Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def averaged(**fields):
    return EMAFull(**fields).reading(7, 4, 6, rng())


def test_without_decay_it_is_exact():
    batch, delta, reading = normal(6, 7), normal(6, 4, seed=1), averaged(beta=0.0)
    for _ in range(3):
        kept, note = reading.keep(batch, None, update=True)
        assert torch.equal(reading.gradient(delta, kept, note), delta.mT @ batch)
    assert kept[0].data_ptr() == batch.data_ptr()  # A itself: no copy


@pytest.mark.parametrize("corrected", [True, False])
def test_it_reconstructs_the_average_divided_by_its_mass_if_asked(corrected):
    batches, total = [normal(6, 7, seed=seed) for seed in range(30)], torch.zeros(6, 7).double()
    reading = averaged(beta=0.9, bias_correction=corrected)
    for batch in batches:
        total = 0.9 * total + 0.1 * batch
        found = reconstruction(reading, batch)
    expected = total / (1 - 0.9**30 if corrected else 1)
    assert torch.linalg.norm(found - expected) <= 1e-12 * torch.linalg.norm(expected)


def test_its_bias_is_the_closed_form():
    """E[ĝ] = (1−β)E[g] + βE[Σδ]E[ā]ᵀ for independent batches, once the first are forgotten.

    δ is linear in A, so that all means are closed forms; so is the variance, which is not needed:
    the spread over draws tells the standard error.
    """
    beta, rows, draws = 0.5, 4, 3000
    mean, weight = normal(3), normal(2, 3, seed=1)
    reading = EMAFull(beta=beta).reading(3, 2, rows, rng())
    batches = normal(draws + 30, rows, 3, seed=2) + mean
    found = []
    for batch in batches:
        kept, note = reading.keep(batch, None, update=True)
        found.append(reading.gradient(batch @ weight.mT, kept, note))
    sample = torch.stack(found[30:])
    exact = weight @ (torch.eye(3, dtype=torch.float64) + mean.outer(mean)) * rows
    expected = (1 - beta) * exact + beta * (weight @ mean * rows).outer(mean)
    errors = 3 * sample.std(0) / draws**0.5  # neighbours are correlated: less than three-fold
    assert ((sample.mean(0) - expected).abs() <= 5 * errors).all()
    assert torch.linalg.norm(exact - expected) > 0.1 * torch.linalg.norm(exact)


def test_a_recomputation_moves_nothing():
    reading, batch = averaged(), normal(6, 7)
    first = reading.keep(batch, None, update=True)
    again = reading.keep(batch, None, update=False)
    assert torch.equal(first[0][0], again[0][0])
    assert first[1] == again[1]
    assert averaged().keep(batch, None, update=False)[1] == pytest.approx(0.05)


def test_a_state_dict_holds_the_average_and_its_count():
    reading, other, batch = averaged(), averaged(), normal(6, 7)
    for _ in range(3):
        reading.keep(batch, None, update=True)
    other.load_state_dict(reading.state_dict())
    assert torch.equal(reconstruction(other, batch), reconstruction(reading, batch))
    other.load_state_dict(averaged().state_dict())
    assert other.average.total is None


def test_the_mean_activation_is_the_bias_gradient_times_the_mean_row():
    batch, delta = normal(6, 7), normal(6, 4, seed=1)
    reading = MeanActivation().reading(7, 4, 6, rng())
    kept, note = reading.keep(batch, None, update=True)
    expected = torch.outer(delta.sum(0), batch.mean(0))
    torch.testing.assert_close(reading.gradient(delta, kept, note), expected)
    assert [each.shape for each in kept] == [(7,)]


def test_the_mean_activation_is_exact_for_equal_rows():
    batch = normal(1, 7).expand(6, 7)
    reading = MeanActivation().reading(7, 4, 6, rng())
    torch.testing.assert_close(reconstruction(reading, batch), batch.clone())


@pytest.mark.parametrize("update", [True, False])
def test_a_loaded_sum_moves_to_the_batch(update):
    saved, average = EMA(0.9), EMA(0.9)
    saved.averaged(torch.ones(4, 3, dtype=torch.float64), update=True)
    average.load_state_dict(saved.state_dict())
    total = average.averaged(torch.empty(4, 3, device="meta"), update)
    assert (total.device.type, total.dtype) == ("meta", torch.float32)
