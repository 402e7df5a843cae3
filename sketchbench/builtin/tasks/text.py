"""Tiny Shakespeare: a language model's task on real text, a character at a time."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import model_validator

from sketchbench import Field, Shapes, Split
from sketchbench.builtin.tasks.archives import Archive
from sketchbench.builtin.tasks.downloads import Progress
from sketchbench.builtin.tasks.tokens import NextToken

ALPHABET = b"\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FILE = "tinyshakespeare.txt"
_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


class _Bare(Archive):
    """An archive whose address gives the raw file as it is."""

    def _unpack(self, path: Path, progress: Progress) -> None:
        if path.suffix == ".txt":
            wrapped = path.with_name(self.wrappers[0])
            wrapped.write_bytes(gzip.compress(path.read_bytes(), compresslevel=1))
            path = wrapped
        super()._unpack(path, progress)


class TinyShakespeare(NextToken):
    """A million characters of Shakespeare's plays: predict each from those before it.

    The first nine tenths are the training split, the rest is the test split; windows don't
    overlap, and what fills no window is left out. 65 characters; the loss is in nats a
    character. A limit takes the first windows. [Karpathy 2015, char-rnn]
    """

    name = "tiny-shakespeare"
    sizes: ClassVar[dict[str, int]] = {"train": 1_003_854, "test": 111_540}  # characters
    archive: ClassVar[Archive] = _Bare(
        data_set="text",
        wrappers=(f"{_FILE}.gz",),
        url=(
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/"
            "input.txt"
        ),
        known_hash=f"sha256:{_SHA256}",
        files={_FILE: f"sha256:{_SHA256}"},
    )

    train_limit: int | None = Field(
        None, ge=1, description="Training windows, the first ones; null is all."
    )
    test_limit: int | None = Field(
        None, ge=1, description="Test windows, the first ones; null is all."
    )

    @property
    def shapes(self) -> Shapes:
        """One window (context,), and an output a character of the alphabet."""
        return Shapes((self.context,), len(ALPHABET))

    def prepare(self, progress: Callable[[str], None]) -> None:
        """Fetch and verify the text."""
        self.archive.read(_FILE, progress)

    def count(self, split: Literal["train", "test"]) -> int:
        """Return the number of windows, limited."""
        limit = self.train_limit if split == "train" else self.test_limit
        return self._windows(split) if limit is None else limit

    def load(self, split: Literal["train", "test"]) -> Split:
        """Return one split as positions in the alphabet; raise `Skip` if the data is missing."""
        codes = np.zeros(256, dtype=np.int64)
        codes[list(ALPHABET)] = np.arange(len(ALPHABET))
        text = np.frombuffer(self.archive.read(_FILE), np.uint8)
        start = 0 if split == "train" else self.sizes["train"]
        used = self.count(split) * self.context
        tokens = torch.from_numpy(codes[text[start : start + used + 1]])
        return Split(
            tokens[:-1].reshape(-1, self.context), tokens[1:].reshape(-1, self.context).clone()
        )

    def _windows(self, split: str) -> int:
        return (self.sizes[split] - 1) // self.context  # the last one needs a next character

    @model_validator(mode="after")
    def _windows_fill(self) -> Self:
        if not self._windows("test"):
            raise ValueError(
                f"context {self.context} is more than the test split of '{self.name}' can fill; "
                f"at most {self.sizes['test'] - 1}"
            )
        for split, limit in (("train", self.train_limit), ("test", self.test_limit)):
            if limit is not None and limit > self._windows(split):
                raise ValueError(
                    f"{split}_limit {limit} is more than the {self._windows(split)} {split} "
                    f"windows of {self.context} characters in '{self.name}'"
                )
        return self
