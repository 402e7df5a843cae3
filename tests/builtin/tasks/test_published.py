"""CIFAR-10 and MNIST: the real files where there are any, small fakes otherwise."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from sketchbench.builtin import CIFAR10, MNIST


def sha256(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def test_cifar10_reads_planes_and_classes_of_its_split_only(tmp_path, monkeypatch, cache):
    rows = np.random.RandomState(0).randint(10, size=(7, 3073)).astype(np.uint8)
    archive = replace(CIFAR10.archive, files={"test_batch.bin": sha256(rows.tobytes())})
    monkeypatch.setattr(CIFAR10, "archive", archive)
    monkeypatch.setenv("SKETCHBENCH_DATA", str(tmp_path))
    folder = tmp_path / "cifar10" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    (folder / "test_batch.bin").write_bytes(rows.tobytes())  # there are no training files
    pixels, classes = CIFAR10().read("test")
    assert classes.tolist() == rows[:, 0].tolist()
    assert pixels[3, 2, 5, 6] == rows[3, 1 + 2 * 1024 + 5 * 32 + 6]


def test_mnist_reads_raw_files(tmp_path, monkeypatch, cache):
    pixels = np.random.RandomState(0).randint(256, size=(5, 1, 28, 28)).astype(np.uint8)
    images = bytes(16) + pixels.tobytes()
    labels = bytes(8) + bytes([3, 1, 4, 1, 5])
    fakes = tuple(
        replace(archive, files={name: sha256(data) for name in archive.files})
        for archive, data in zip(MNIST.archives["test"], (images, labels), strict=True)
    )
    monkeypatch.setattr(MNIST, "archives", {"test": fakes})
    monkeypatch.setenv("SKETCHBENCH_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte").write_bytes(images)
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte").write_bytes(labels)
    found, classes = MNIST().read("test")
    assert (found == pixels).all()
    assert classes.tolist() == [3, 1, 4, 1, 5]
    MNIST().prepare(lambda text: None)


@pytest.mark.parametrize("task", [CIFAR10, MNIST])
def test_the_real_test_split_is_complete(task, real_data):
    split = task().load("test")
    assert split.inputs.shape == (10_000, *task.shape)
    assert split.targets.shape == (10_000,)
    assert set(split.targets.tolist()) == set(range(10))


@pytest.mark.parametrize("task", [CIFAR10, MNIST])
def test_the_real_training_split_is_standardised_a_channel(task, real_data):
    pixels, classes = task().read("train")
    assert len(classes) == task.sizes["train"]
    levels = np.arange(256) / 255
    for channel in range(task.shape[0]):
        counts = np.bincount(pixels[:, channel].ravel(), minlength=256) / pixels[:, channel].size
        mean = counts @ levels
        std = np.sqrt(counts @ (levels - mean) ** 2)
        assert mean == pytest.approx(task.mean[channel], abs=6e-5)
        assert std == pytest.approx(task.std[channel], abs=6e-4)


def test_a_real_limit_is_balanced_in_the_archives_order(real_data):
    limited = MNIST(test_limit=105).load("test")
    whole = MNIST().load("test")
    assert limited.targets.bincount().tolist() == [11] * 5 + [10] * 5
    zeros = whole.inputs[whole.targets == 0][:11]
    assert torch.equal(limited.inputs[limited.targets == 0], zeros)
