"""CIFAR-10, from its binary version."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from sketchbench.builtin.tasks.archives import Archive
from sketchbench.builtin.tasks.images import ImageClassification

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHA256 = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}


class CIFAR10(ImageClassification):
    """CIFAR-10: 32x32 colour images of ten kinds of thing, 50,000 to train and 10,000 to test.

    Augmentation is a random crop after padding by four pixels, and a horizontal flip of every
    second image [He et al. 2015, §4.2]. [Krizhevsky 2009]
    """

    name = "cifar10"
    shape = (3, 32, 32)
    sizes = {"train": 50_000, "test": 10_000}
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2470, 0.2435, 0.2616)
    padding = 4
    flips = True
    archive: ClassVar[Archive] = Archive(
        data_set="cifar10",
        wrappers=("cifar-10-binary.tar.bz2", "cifar-10-binary.tar.gz"),
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        known_hash="md5:c32a1d4ab5d03f1284b67883e8d87530",
        files={name: f"sha256:{digest}" for name, digest in _SHA256.items()},
        unpacked="cifar-10-batches-bin",
    )

    def prepare(self, progress: Callable[[str], None]) -> None:
        """Fetch, unpack and verify all six files."""
        for name in self.archive.files:
            self.archive.read(name, progress)

    def read(self, split: Literal["train", "test"]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return pixels (n, 3, 32, 32) and classes (n,), in the archive's order."""
        names = [
            name for name in self.archive.files if name.startswith("test") == (split == "test")
        ]
        rows = np.concatenate(
            [np.frombuffer(self.archive.read(name), np.uint8) for name in names]
        ).reshape(-1, 1 + 3 * 32 * 32)  # the class, then the red, the green and the blue plane
        return rows[:, 1:].reshape(-1, *self.shape), rows[:, 0].astype(np.int64)
