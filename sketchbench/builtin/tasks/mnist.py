"""MNIST, from its IDX files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from sketchbench.builtin.tasks.archives import Archive
from sketchbench.builtin.tasks.images import ImageClassification

if TYPE_CHECKING:
    from numpy.typing import NDArray

_ADDRESS = "https://ossci-datasets.s3.amazonaws.com/mnist"


def _archive(name: str, gzip_md5: str, raw_md5: str) -> Archive:
    return Archive(
        data_set="mnist",
        wrappers=(f"{name}.gz",),
        url=f"{_ADDRESS}/{name}.gz",
        known_hash=f"md5:{gzip_md5}",
        files={name: f"md5:{raw_md5}"},
    )


class MNIST(ImageClassification):
    """MNIST: handwritten digits, 28x28 grey, 60,000 to train and 10,000 to test.

    Augmentation is a random crop after padding by two pixels. [LeCun et al. 1998]
    """

    name = "mnist"
    shape = (1, 28, 28)
    sizes = {"train": 60_000, "test": 10_000}
    mean = (0.1307,)
    std = (0.3081,)
    padding = 2
    archives: ClassVar[Mapping[str, tuple[Archive, Archive]]] = {  # images and labels of a split
        "train": (
            _archive(
                "train-images-idx3-ubyte",
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "6bbc9ace898e44ae57da46a324031adb",
            ),
            _archive(
                "train-labels-idx1-ubyte",
                "d53e105ee54ea40749a09fcbcd1e9432",
                "a25bea736e30d166cdddb491f175f624",
            ),
        ),
        "test": (
            _archive(
                "t10k-images-idx3-ubyte",
                "9fb629c4189551a2d022fa330f9573f3",
                "2646ac647ad5339dbf082846283269ea",
            ),
            _archive(
                "t10k-labels-idx1-ubyte",
                "ec29112dd5afa0611ce80d1b7f02629c",
                "27ae3e4e09519cfbb04c329615203637",
            ),
        ),
    }

    def prepare(self, progress: Callable[[str], None]) -> None:
        """Fetch, unpack and verify all four files."""
        for archives in self.archives.values():
            for archive in archives:
                for name in archive.files:
                    archive.read(name, progress)

    def read(self, split: Literal["train", "test"]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return pixels (n, 1, 28, 28) and classes (n,), in the archive's order."""
        pixels, classes = (
            np.frombuffer(archive.read(name), np.uint8)
            for archive in self.archives[split]
            for name in archive.files
        )
        # An IDX file opens with 4 bytes of type and rank, then 4 bytes a dimension.
        return pixels[16:].reshape(-1, *self.shape), classes[8:].astype(np.int64)
