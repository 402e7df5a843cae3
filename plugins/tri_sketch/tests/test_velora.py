"""VeLoRA: exact along its vector, and a projection of sub-tokens everywhere else."""

import pytest
import torch
from sketchbench_tri_sketch import VeLoRA
from sketchbench_tri_sketch.probe import reconstruction
from torch import Generator


def normal(*shape, seed=0):
    rng = Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.float64)


def reading_of(groups, width=12):
    return VeLoRA(groups=groups).reading(width, 4, 8, Generator())


@pytest.mark.parametrize("groups", [1, 3, 4, 12])
def test_sub_tokens_along_one_vector_come_back(groups):
    vector = normal(12 // groups, seed=1)
    matrix = (normal(8, groups)[:, :, None] * vector).flatten(1)
    torch.testing.assert_close(reconstruction(reading_of(groups), matrix), matrix)


def test_each_sub_token_is_projected_on_the_first_batchs_mean():
    first, second, reading = normal(8, 12), normal(8, 12, seed=1), reading_of(3)
    reconstruction(reading, first)
    mean = first.view(8, 3, 4).mean((0, 1))
    vector = mean / torch.linalg.norm(mean)
    expected = (second.view(8, 3, 4) @ vector)[..., None] * vector
    torch.testing.assert_close(reconstruction(reading, second), expected.flatten(1))
    torch.testing.assert_close(reading.vector, vector)


def test_as_many_groups_as_features_are_exact():
    torch.testing.assert_close(reconstruction(reading_of(64), normal(8, 12)), normal(8, 12))


def test_a_shorter_last_sub_token_is_filled_up_with_zeros():
    matrix, padded = normal(8, 10), torch.zeros(8, 12, dtype=torch.float64)
    padded[:, :10] = matrix
    found = reconstruction(reading_of(3, width=10), matrix)
    torch.testing.assert_close(found, reconstruction(reading_of(3), padded)[:, :10])


def test_a_batch_of_zeros_has_a_flat_vector():
    reading = reading_of(3)
    assert not reconstruction(reading, torch.zeros(8, 12)).any()
    torch.testing.assert_close(reading.vector, torch.full((4,), 0.5))


def test_the_vector_comes_with_the_state_dict():
    reading, other = reading_of(3), reading_of(3)
    reconstruction(reading, normal(8, 12))
    other.load_state_dict(reading.state_dict())
    assert torch.equal(other.vector, reading.vector)


def test_a_recomputation_moves_nothing():
    reading = reading_of(3)
    reading.keep(normal(8, 12), None, update=False)
    assert reading.vector is None


def test_it_keeps_a_number_a_sub_token():
    reading = reading_of(3)
    kept, _ = reading.keep(normal(8, 12).float(), None, update=True)
    assert [tuple(each.shape) for each in kept] == [(8, 3), (4,)]
    assert kept[1] is reading.vector


def test_a_loaded_vector_moves_to_the_batch():
    reading, other = reading_of(3), reading_of(3)
    reconstruction(reading, normal(8, 12))
    other.load_state_dict(reading.state_dict())
    kept, _ = other.keep(torch.empty(8, 12, device="meta"), None, update=True)
    assert {each.device.type for each in [*kept, other.vector]} == {"meta"}
    assert kept[1] is other.vector
    assert other.vector.dtype == torch.float32
