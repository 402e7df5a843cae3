import pytest
import torch
from pydantic import ValidationError

from sketchbench.builtin import CIFAR10, MNIST, Digits, RandomTokens, Shifted
from sketchbench.builtin.tasks.shifted import rotated


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.rand(5, 3, 8, 8, generator=rng())


@pytest.mark.parametrize(("angle", "quarters"), [(0, 0), (90, 1), (180, 2), (-90, 3), (360, 0)])
def test_quarter_turns_are_counter_clockwise_and_move_pixels(images, angle, quarters):
    found = rotated(images, float(angle))
    torch.testing.assert_close(found, torch.rot90(images, quarters, (2, 3)), rtol=0, atol=1e-5)


def test_a_turn_of_any_angle_keeps_a_flat_image_flat():
    flat = torch.full((1, 1, 9, 6), 0.7)
    torch.testing.assert_close(rotated(flat, 33.0), flat)


def test_a_turn_and_its_opposite_cancel_where_the_image_is_smooth():
    line = torch.linspace(-1, 1, 33)
    hill = torch.exp(-9 * ((line - 0.2) ** 2 + line[:, None] ** 2))[None, None]
    found = rotated(rotated(hill, 40.0), -40.0)
    # Twice h²/8 of both second derivatives, h = 1/16 and at most 18 each.
    torch.testing.assert_close(found, hill, rtol=0, atol=0.036)
    assert (rotated(hill, 40.0) - hill).abs().max() > 0.1


@pytest.mark.parametrize("shift", ["rotation", "noise"])
def test_images_shift_from_a_step_on(shift):
    task = Shifted(task=Digits(), shift=shift, at=3)
    inputs = Digits().load("train").inputs[:7]
    assert torch.equal(task.transform(inputs, rng(), 2), inputs)
    found = task.transform(inputs, rng(), 3)
    assert found.shape == inputs.shape
    assert not torch.allclose(found, inputs)
    assert torch.equal(found, task.transform(inputs, rng(), 9))


def test_noise_has_the_deviation_asked_for():
    task = Shifted(task=Digits(), shift="noise", std=0.3)
    found = task.transform(torch.zeros(500, 1, 8, 8), rng(), 0)
    assert found.std().item() == pytest.approx(0.3, rel=0.02)  # five standard errors


def test_the_tasks_own_augmentation_comes_first():
    inner = Digits(augment=True)
    inputs = Digits().load("train").inputs[:7]
    task = Shifted(task=inner, angle=20.0)
    expected = rotated(inner.transform(inputs, rng(4), 0), 20.0)
    assert torch.equal(task.transform(inputs, rng(4), 0), expected)


@pytest.mark.parametrize("group", [1, 2, 3, 10])
def test_classes_come_one_group_after_another_each_example_once(group):
    task = Shifted(task=Digits(), shift="classes", group=group)
    targets = Digits().load("train").targets
    order = task.order(targets, rng())
    assert torch.equal(order.sort().values, torch.arange(len(targets)))
    groups = targets[order] // group
    assert torch.equal(groups, groups.sort().values)
    assert not torch.equal(order, task.order(targets, rng(1)))


def test_within_a_group_the_order_is_the_tasks():
    targets = Digits().load("train").targets
    order = Shifted(task=Digits(), shift="classes", group=10).order(targets, rng(3))
    assert torch.equal(order, Digits().order(targets, rng(3)))


@pytest.mark.parametrize("shift", ["rotation", "noise"])
def test_test_images_shift_if_asked_to_and_training_images_later(shift):
    plain, moved = (
        Shifted(task=Digits(), shift=shift, at=5, test_shifted=asked) for asked in (False, True)
    )
    assert torch.equal(plain.load("test").inputs, Digits().load("test").inputs)
    assert not torch.allclose(moved.load("test").inputs, Digits().load("test").inputs)
    assert torch.equal(moved.load("test").inputs, moved.load("test").inputs)
    assert torch.equal(moved.load("train").inputs, Digits().load("train").inputs)


@pytest.mark.parametrize(
    "inner", [Digits(train_limit=30), MNIST(train_limit=20), CIFAR10(train_limit=20, test_limit=20)]
)
def test_everything_else_is_the_tasks(inner):
    task = Shifted(task=inner)
    assert task.shapes == inner.shapes
    for split in ("train", "test"):
        assert task.blank(split).inputs.shape == inner.blank(split).inputs.shape
    batch = inner.blank("train").inputs[:2]
    assert task.transform(batch, rng(), 0).shape == batch.shape
    outputs, targets = torch.randn(4, 10, generator=rng()), torch.arange(4)
    assert torch.equal(task.loss(outputs, targets), inner.loss(outputs, targets))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"task": RandomTokens()}, "'random-tokens' has inputs of shape (128,)"),
        ({"task": Digits(), "shift": "classes", "at": 4}, "leave out 'at'"),
        ({"task": Digits(), "shift": "classes", "test_shifted": True}, "leave out 'at'"),
    ],
)
def test_what_does_not_go_together_is_refused(fields, text):
    with pytest.raises(ValidationError) as caught:
        Shifted(**fields)
    assert text in str(caught.value)
