"""Japanese vowels: a small real speech task."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from sketchbench import Shapes, Split, Task
from sketchbench.builtin.tasks.shipped import Shipped

SPEAKERS, COEFFICIENTS, FRAMES = 9, 12, 29
COUNTS = {"train": 270, "test": 370}
_FILES = {"train": "JapaneseVowels_TRAIN.ts", "test": "JapaneseVowels_TEST.ts"}


class JapaneseVowels(Task):
    """Which of nine speakers said it: 12 LPC cepstrum coefficients of up to 29 frames of speech.

    270 utterances to train, 370 to test, as published. Inputs (12, 29): each coefficient
    standardised by its mean and deviation over the training frames, shorter utterances padded
    with zeros at the end. [Kudo et al. 1999; UCI] The files are those that `sktime` and `aeon`
    ship. A stand-in for speech corpora, such as Librispeech, that have to be downloaded.
    """

    name = "japanese-vowels"
    shipped: ClassVar[Shipped] = Shipped(
        "uea",
        (
            ("sktime", "datasets/data/JapaneseVowels"),
            ("aeon", "datasets/data/JapaneseVowels"),
        ),
        {
            _FILES["train"]: "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
            _FILES["test"]: "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
        },
    )

    @property
    def shapes(self) -> Shapes:
        """Coefficients × frames, and an output a speaker."""
        return Shapes((COEFFICIENTS, FRAMES), SPEAKERS)

    def prepare(self, progress: Callable[[str], None]) -> None:
        """Verify both files."""
        for name in _FILES.values():
            self.shipped.read(name)

    def load(self, split: Literal["train", "test"]) -> Split:
        """Return one split; raise `Skip` if no installed package has the data."""
        train, _ = _utterances(self.shipped.read(_FILES["train"]))
        frames = torch.cat(train, dim=1)
        mean, deviation = frames.mean(1, keepdim=True), frames.std(1, keepdim=True)
        found, speakers = _utterances(self.shipped.read(_FILES[split]))
        padded = [F.pad((u - mean) / deviation, (0, FRAMES - u.shape[1])) for u in found]
        return Split(torch.stack(padded), torch.tensor(speakers))

    def blank(self, split: Literal["train", "test"]) -> Split:
        """Return a split of zeros of one speaker."""
        count = COUNTS[split]
        inputs = torch.zeros(count, COEFFICIENTS, FRAMES)
        return Split(inputs, torch.zeros(count, dtype=torch.int64))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy."""
        return F.cross_entropy(outputs, targets)


def _utterances(text: str) -> tuple[list[Tensor], list[int]]:
    """Return utterances (12, frames ≤ 29) and speakers from 0, of a file in the `.ts` format."""
    lines = text.split("@data", 1)[1].split()
    utterances, speakers = [], []
    for line in lines:
        *series, speaker = line.split(":")
        utterances.append(torch.tensor([[float(v) for v in row.split(",")] for row in series]))
        speakers.append(int(speaker) - 1)
    return utterances, speakers
