import numpy as np
import pytest
import torch
from pydantic import ValidationError

from sketchbench.builtin import CIFAR10, MNIST, Digits
from sketchbench.builtin.tasks.images import balanced, cropped

TASKS = [CIFAR10, Digits, MNIST]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("limit", [1, 9, 10, 13, 57])
def test_a_limit_takes_the_first_of_each_class_and_the_rest_from_the_first_classes(limit):
    classes = np.random.RandomState(0).randint(10, size=400)
    kept = balanced(classes, limit)
    assert len(kept) == limit
    assert (np.diff(kept) > 0).all()
    for label in range(10):
        wanted = limit // 10 + (label < limit % 10)
        first = np.flatnonzero(classes == label)[:wanted]
        assert set(first) == set(kept[classes[kept] == label])


def test_a_limit_that_a_class_cannot_fill_says_what_can_be_had():
    classes = np.repeat(np.arange(10), 5)[:-2]
    with pytest.raises(ValueError, match=r"class 9, which has 3; at most 30 .* 48 is the whole"):
        balanced(classes, 40)


def test_a_limit_beyond_the_split_is_refused_before_loading():
    with pytest.raises(ValidationError, match="train_limit 1438 is more than the 1437 train"):
        Digits(train_limit=1438)


def test_a_limit_of_everything_is_the_whole_split():
    whole, limited = Digits().load("train"), Digits(train_limit=1437).load("train")
    assert torch.equal(whole.inputs, limited.inputs)
    assert torch.equal(whole.targets, limited.targets)


def test_a_limit_between_the_balanced_and_the_whole_names_the_field():
    with pytest.raises(ValueError, match="digits: train_limit: 1436 needs 144 of class 0"):
        Digits(train_limit=1436).load("train")


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_is_left_alone_unless_augmentation_is_asked_for(task):
    batch = torch.randn(4, *task.shape)
    assert task().transform(batch, rng(), 0) is batch


@pytest.mark.parametrize("task", TASKS)
def test_augmentation_draws_from_its_generator_alone(task):
    batch = torch.randn(16, *task.shape, generator=rng())
    before = torch.get_rng_state()
    once, again = (task(augment=True).transform(batch, rng(1), 0) for _ in range(2))
    other = task(augment=True).transform(batch, rng(2), 0)
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert once.shape == batch.shape
    assert torch.equal(before, torch.get_rng_state())


def test_every_crop_is_a_window_of_the_padded_image():
    images = torch.arange(1.0, 1 + 200 * 2 * 5 * 4).reshape(200, 2, 5, 4)
    border = torch.tensor([-1.0, -2.0])[:, None, None]
    found = cropped(images, 1, border, rng())
    padded = torch.cat(
        [torch.nn.functional.pad(images[:, c : c + 1], (1,) * 4, value=-c - 1.0) for c in range(2)],
        dim=1,
    )
    windows = padded.unfold(2, 5, 1).unfold(3, 4, 1)  # (n, c, 3, 3, 5, 4)
    matches = (windows == found[:, :, None, None]).all(dim=(-1, -2)).all(dim=1).flatten(1)
    assert (matches.sum(1) == 1).all()
    assert matches.any(0).all()  # every offset is drawn


def test_colour_images_are_flipped_about_half_of_the_time():
    batch = torch.zeros(400, 3, 32, 32)
    batch[:, :, :, :16] = 1.0
    left = CIFAR10(augment=True).transform(batch, rng(), 0)[:, 0, 16, 8]
    assert abs(left.mean().item() - 0.5) < 4 * 0.5 / 20  # four standard errors


def test_the_border_of_a_crop_is_black():
    task = MNIST(augment=True)
    black = -0.1307 / 0.3081
    batch = torch.ones(64, 1, 28, 28)
    values = task.transform(batch, rng(), 0).unique()
    torch.testing.assert_close(values, torch.tensor([black, 1.0]))


def test_the_loss_is_the_mean_cross_entropy():
    outputs = torch.zeros(5, 10)
    assert Digits().loss(outputs, torch.arange(5)).item() == pytest.approx(np.log(10))
