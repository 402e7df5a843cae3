"""The law of blank splits: they are what is loaded, but for the values."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from sketchbench import Skip
from sketchbench.builtin import CIFAR10, MNIST, Digits, Poisson, Shifted, SyntheticPlanted
from sketchbench.builtin.tasks.solubility import Solubility
from sketchbench.builtin.tasks.speakers import Speakers
from sketchbench.builtin.tasks.text import TinyShakespeare
from sketchbench.builtin.tasks.tokens import RandomTokens
from sketchbench.builtin.tasks.vowels import JapaneseVowels

TASKS = [
    Digits(),
    Digits(train_limit=30, test_limit=17, augment=True),
    MNIST(),
    MNIST(train_limit=105, test_limit=10),
    CIFAR10(train_limit=500),
    TinyShakespeare(),
    TinyShakespeare(context=100, train_limit=3, test_limit=2),
    TinyShakespeare(context=111_539),
    RandomTokens(),
    RandomTokens(context=5, vocabulary=3, examples=4, test_examples=2),
    Poisson(),
    Poisson(interior=9, boundary=8, grid=4),
    Shifted(task=Digits(train_limit=30)),
    Shifted(task=Digits(), shift="noise", test_shifted=True),
    SyntheticPlanted(width=20, examples=30, test_examples=40),
    JapaneseVowels(),
    Solubility(),
    Speakers(),
    Speakers(classes=10, context=5, train_limit=7, test_limit=150),
]
SPLITS = ("train", "test")


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.label())
def test_blank_and_loaded_splits_agree_in_shape_and_type(task, request):
    if task.name in ("mnist", "cifar10"):
        request.getfixturevalue("real_data")
    if task.name in ("tiny-shakespeare", "speakers"):
        request.getfixturevalue("real_text")
    if task.name in ("japanese-vowels", "solubility", "speakers"):
        try:
            task.prepare(print)
        except Skip as reason:
            pytest.skip(str(reason))
    for split in SPLITS:
        blank, loaded = task.blank(split), task.load(split)
        assert blank.inputs.shape == loaded.inputs.shape
        assert blank.targets.shape == loaded.targets.shape
        assert blank.inputs.dtype == loaded.inputs.dtype
        assert blank.targets.dtype == loaded.targets.dtype
        assert blank.inputs.shape[1:] == task.shapes.inputs


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.label())
def test_a_blank_split_is_valid_data_and_reads_nothing(task, cache, monkeypatch):
    monkeypatch.setattr(type(task), "load", lambda *_: pytest.fail("loaded"))
    for split in SPLITS:
        blank = task.blank(split)
        targets = blank.targets[:2]  # of classes, an output each; or numbers, a row an example
        rows = targets.shape[:1] if targets.is_floating_point() else targets.shape
        assert task.loss(torch.zeros(*rows, task.shapes.outputs), targets).isfinite()
    assert not cache.exists()


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.label())
def test_a_blank_batch_of_fake_tensors_is_transformed(task):
    with FakeTensorMode(allow_non_fake_inputs=False):
        split = task.blank("train")
        chosen = torch.randperm(len(split.inputs), generator=torch.Generator())[:8]
        batch = task.transform(split.inputs[chosen], torch.Generator(), 0)
    assert batch.shape == (min(8, len(split.inputs)), *task.shapes.inputs)
    assert batch.dtype == split.inputs.dtype


@pytest.mark.parametrize("task", [Digits(augment=True), CIFAR10(augment=True)])
def test_augmentation_of_fake_images_keeps_shape_and_type(task):
    with FakeTensorMode(allow_non_fake_inputs=False):
        batch = torch.zeros(8, *task.shape)
        found = task.transform(batch, torch.Generator(), 0)
    assert found is not batch
    assert found.shape == (8, *task.shape)
    assert found.dtype == torch.float32
    assert found.is_contiguous()
