import pytest
import torch

from sketchbench.builtin import SyntheticPlanted


@pytest.mark.parametrize("split", ["train", "test"])
def test_inputs_have_the_planted_rank_and_unit_variance(split):
    inputs = SyntheticPlanted(rank=6).load(split).inputs.double()
    values = torch.linalg.svdvals(inputs)
    assert (values > 1e-5 * values[0]).sum() == 6
    assert inputs.square().mean().item() == pytest.approx(1, rel=0.2)


def test_noise_fills_the_rank_and_keeps_the_variance():
    clean, noisy = (SyntheticPlanted(rank=6, noise=noise).load("train") for noise in (0.0, 0.5))
    values = torch.linalg.svdvals(noisy.inputs.double())
    assert (values > 1e-2 * values[0]).sum() == 256
    # E‖x‖² is the same with and without noise.
    ratio = noisy.inputs.square().mean() / clean.inputs.square().mean()
    assert ratio.item() == pytest.approx(1, rel=0.05)


def test_without_a_rank_the_covariance_is_the_identity():
    inputs = SyntheticPlanted(rank=None, width=32, examples=20000).load("train").inputs.double()
    covariance = inputs.mT @ inputs / len(inputs)
    # A Gaussian sample covariance of 32 columns is within 2√(32/n) + 32/n of I in norm.
    assert torch.linalg.matrix_norm(covariance - torch.eye(32), 2) < 0.1


def test_splits_share_the_subspace_and_the_teacher_but_no_example():
    train, test = (SyntheticPlanted(rank=3).load(split) for split in ("train", "test"))
    together = torch.linalg.svdvals(torch.cat([train.inputs, test.inputs]).double())
    assert (together > 1e-5 * together[0]).sum() == 3
    assert not torch.equal(train.inputs[:1024], test.inputs)


@pytest.mark.parametrize("rank", [8, None])
def test_every_class_occurs_in_both_splits_and_none_dominates(rank):
    task = SyntheticPlanted(rank=rank)
    for split in ("train", "test"):
        shares = task.load(split).targets.bincount(minlength=10).double()
        assert (shares > 0).all()
        assert shares.max() / shares.sum() < 0.6


def test_data_is_drawn_once_and_for_all():
    once, again = (SyntheticPlanted().load("train") for _ in range(2))
    assert torch.equal(once.inputs, again.inputs)
    assert torch.equal(once.targets, again.targets)
