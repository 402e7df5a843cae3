"""Scikit-learn's handwritten digits: real data that needs no download."""

from __future__ import annotations

import gzip
import hashlib
import io
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from sketchbench import Skip
from sketchbench.builtin.tasks.images import CLASSES, ImageClassification

if TYPE_CHECKING:
    from numpy.typing import NDArray

TEST_PER_CLASS = 36
ROWS = 1797  # of the table; SHA-256 of it, decompressed
SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"


class Digits(ImageClassification):
    """Handwritten digits, 8x8 grey, 1,437 to train and 360 to test; embedded, for quick runs.

    The test split has 36 images of each class, drawn once and for all. The images are the test
    part of the UCI set (1,797 of 13 writers), as scikit-learn ships it. Augmentation is a random
    crop after padding by one pixel.
    """

    name = "digits"
    shape = (1, 8, 8)
    sizes = {"train": 1437, "test": 360}
    levels = 16
    mean = (0.3059,)
    std = (0.3766,)
    padding = 1

    def read(self, split: Literal["train", "test"]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return pixels (n, 1, 8, 8) in 0..16 and classes (n,), in scikit-learn's order."""
        images, classes = _table()
        kept = _test_rows(classes) == (split == "test")
        return images[kept], classes[kept]


def _table() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return what `sklearn.datasets.load_digits` does, without importing it (1.6 s of CPU).

    Raises `RuntimeError` for a table that isn't the one that all numbers were measured on.
    """
    found = find_spec("sklearn")
    if found is None or found.origin is None:
        raise Skip("digits: scikit-learn isn't installed; `pip install scikit-learn` brings them")
    path = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
    with gzip.open(path) as file:
        table = file.read()
    count, digest = len(table.splitlines()), hashlib.sha256(table).hexdigest()
    if (count, digest) != (ROWS, SHA256):
        from sklearn import __version__ as version

        raise RuntimeError(
            f"{path}: expected {ROWS} rows with SHA-256 {SHA256}; found {count} rows with "
            f"{digest}, in scikit-learn {version}"
        )
    rows = np.loadtxt(io.BytesIO(table), delimiter=",", dtype=np.int64)
    return rows[:, :-1].astype(np.uint8).reshape(-1, 1, 8, 8), rows[:, -1]


def _test_rows(classes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which rows are the test split; numpy has frozen `RandomState`, so it never changes."""
    draw = np.random.RandomState(0)
    test = np.zeros(len(classes), dtype=bool)
    for label in range(CLASSES):
        test[draw.permutation(np.flatnonzero(classes == label))[:TEST_PER_CLASS]] = True
    return test
