"""a9a: the census task of online convex optimisation, from LIBSVM's collection."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import model_validator

from sketchbench import Field, Shapes, Skip, Split, Task
from sketchbench.builtin.tasks.archives import cache_folder, data_folder
from sketchbench.builtin.tasks.downloads import Progress, Unreachable, fetch

if TYPE_CHECKING:
    from torch import Tensor

FEATURES = 123
URL = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/binary/"
FILES = {"train": "a9a", "test": "a9a.t"}
KNOWN = {  # SHA-256 of files that were measured on, by their number of rows
    ("train", 32_560): "1274108a5fe92fbda8e1b337cebc7a1397ae089020fe0f8f555763920ac3dbeb",
    ("test", 16_281): "1f448a153f0320399a7e40836eb207655b0bde0f21fc941cc472193daa9f5de9",
}


class A9A(Task):
    """Incomes above 50,000 dollars, from 123 binary features of a census, and an intercept.

    LIBSVM's a9a (UCI Adult): 32,561 examples to train, 16,281 to test, in the file's order. One
    output, of class 1 where it is positive. Files are looked for in `$SKETCHBENCH_DATA/libsvm`
    (`a9a`, `a9a.t`, or either with `.gz`), then in the cache, then at LIBSVM's address. A training
    file that lacks one row, 32,560 of 32,561, is about; it is taken, and said to be
    incomplete: by `prepare`, and in records of `regret` by the event `examples`. A file of known
    length must be the known one; a complete training file is checked by its form alone, since no
    digest of it was ever published. A limit takes the first examples.
    """

    name = "a9a"
    sizes: ClassVar[dict[str, int]] = {"train": 32_561, "test": 16_281}

    train_limit: int | None = Field(None, ge=1, description="Training examples; null is all.")
    test_limit: int | None = Field(None, ge=1, description="Test examples; null is all.")

    @property
    def shapes(self) -> Shapes:
        """124 entries, the last one 1, and one output."""
        return Shapes((FEATURES + 1,), 1)

    def prepare(self, progress: Callable[[str], None]) -> None:
        """Fetch and check both files."""
        for split in FILES:
            rows = len(_read(split, progress).splitlines())
            if rows != self.sizes[split]:
                progress(f"a9a: the {split} file has {rows} of {self.sizes[split]} rows")

    def load(self, split: Literal["train", "test"]) -> Split:
        """Return one split, limited; raise `Skip` if it can't be had."""
        lines = _read(split).splitlines()[: self._limit(split)]
        inputs = torch.zeros(len(lines), FEATURES + 1)
        inputs[:, -1] = 1.0
        rows, columns = [], []
        targets = torch.zeros(len(lines), dtype=torch.int64)
        for row, line in enumerate(lines):
            label, *features = line.replace(b":1", b"").split()
            targets[row] = label == b"+1"
            columns += [int(feature) - 1 for feature in features]
            rows += [row] * len(features)
        inputs[rows, columns] = 1.0
        return Split(inputs, targets)

    def blank(self, split: Literal["train", "test"]) -> Split:
        """Return a split of zeros of class 0, as many as the complete file has."""
        count = self._limit(split) or self.sizes[split]
        return Split(torch.zeros(count, FEATURES + 1), torch.zeros(count, dtype=torch.int64))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean logistic loss of outputs (n, 1)."""
        return F.binary_cross_entropy_with_logits(outputs.squeeze(-1), targets.to(outputs))

    def _limit(self, split: str) -> int | None:
        return self.train_limit if split == "train" else self.test_limit

    @model_validator(mode="after")
    def _limits_within_split(self) -> Self:
        for split, size in self.sizes.items():
            limit = self._limit(split)
            if limit is not None and limit > size:
                raise ValueError(
                    f"{split}_limit {limit} is more than the {size} {split} examples of 'a9a'"
                )
        return self


def _read(split: str, progress: Progress = lambda text: None) -> bytes:
    """Return a file's text, checked; raise `Skip` if it can't be had, `RuntimeError` if damaged."""
    path = _find(FILES[split]) or _download(FILES[split], progress)
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise RuntimeError(f"{path}: damaged, or not readable ({error})") from error
    _check(data, split, path)
    return data


def _find(name: str) -> Path | None:
    given = data_folder()
    folders = [given / "libsvm"] if given else []
    places = [f / n for f in (*folders, cache_folder() / "libsvm") for n in (name, f"{name}.gz")]
    return next((path for path in places if path.is_file()), None)


def _download(name: str, progress: Progress) -> Path:
    folder = cache_folder() / "libsvm"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="download-") as temporary:
            path = fetch(URL + name, None, Path(temporary), progress)
            return path.replace(folder / name)
    except Unreachable as error:
        raise Skip(
            f"libsvm: no data in {data_folder() or cache_folder()}; set SKETCHBENCH_DATA to a "
            f"folder that holds libsvm/{name}.gz, or allow the download from {URL}{name} ({error})"
        ) from error


def _check(data: bytes, split: str, path: Path) -> None:
    rows = len(data.splitlines())
    expected = KNOWN.get((split, rows))
    found = hashlib.sha256(data).hexdigest()
    if expected not in (None, found):
        raise RuntimeError(f"{path}: damaged; expected sha256:{expected}, found sha256:{found}")
    if expected is None and rows != A9A.sizes[split]:
        raise RuntimeError(
            f"{path}: damaged; expected {A9A.sizes[split]} rows, found {rows}; delete it to have "
            "it fetched again"
        )
    for number, line in enumerate(data.splitlines() if expected is None else (), 1):
        label, *features = line.split()
        known = label in (b"+1", b"-1") and all(f.endswith(b":1") for f in features)
        if not known or not all(1 <= int(f[:-2]) <= FEATURES for f in features):
            raise RuntimeError(f"{path}: line {number} isn't one of a9a: {line[:60]!r}")
