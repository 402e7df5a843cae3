"""What the image tasks share: balanced limits, standardisation, random crops, cross entropy."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import model_validator

from sketchbench import Field, Shapes, Split, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Generator, Tensor

CLASSES = 10


class ImageClassification(Task):
    """Images of ten classes, scaled to [0, 1] and standardised by fixed constants a channel.

    A limit takes the first examples of each class, in the archive's order; where it is no multiple
    of ten, the first classes give one more. A limit of all examples is the whole split.
    """

    shape: ClassVar[tuple[int, int, int]]  # (channels, height, width)
    sizes: ClassVar[Mapping[str, int]]  # examples a split
    levels: ClassVar[int] = 255  # the brightest pixel
    mean: ClassVar[Sequence[float]]  # a channel, over the training split, of pixels in [0, 1]
    std: ClassVar[Sequence[float]]
    padding: ClassVar[int]  # pixels around an image before a random crop
    flips: ClassVar[bool] = False

    train_limit: int | None = Field(
        None, ge=1, description="Training examples, balanced over the classes; null is all."
    )
    test_limit: int | None = Field(
        None, ge=1, description="Test examples, balanced over the classes; null is all."
    )
    augment: bool = Field(False, description="Augment training batches at random.")

    @property
    def shapes(self) -> Shapes:
        """One image (channels, height, width), and ten outputs."""
        return Shapes(self.shape, CLASSES)

    @abstractmethod
    def read(self, split: Literal["train", "test"]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Return the split's pixels (n, c, h, w) and classes (n,); raise `Skip` if missing."""

    def blank(self, split: Literal["train", "test"]) -> Split:
        """Return a split of grey images of one class, as many as `load` does; reads nothing."""
        limit = self.train_limit if split == "train" else self.test_limit
        count = self.sizes[split] if limit is None else limit
        return Split(torch.zeros(count, *self.shape), torch.zeros(count, dtype=torch.int64))

    def load(self, split: Literal["train", "test"]) -> Split:
        """Return one split, limited and standardised; raise `Skip` if the data is missing."""
        pixels, classes = self.read(split)
        limit = self.train_limit if split == "train" else self.test_limit
        if limit is not None and limit < len(classes):
            try:
                kept = balanced(classes, limit)
            except ValueError as error:
                raise ValueError(f"{self.name}: {split}_limit: {error}") from None
            pixels, classes = pixels[kept], classes[kept]
        inputs = torch.from_numpy(pixels.astype(np.float32))
        inputs.div_(self.levels).sub_(_channels(self.mean)).div_(_channels(self.std))
        return Split(inputs, torch.from_numpy(classes))

    def transform(self, inputs: Tensor, rng: Generator, step: int) -> Tensor:
        """Crop each image at random (and flip it, where the task does), if asked to augment.

        The border is black. Draws come from `rng` alone and are the same on every device.
        """
        if not self.augment:
            return inputs
        black = -_channels(self.mean).to(inputs) / _channels(self.std).to(inputs)
        inputs = cropped(inputs, self.padding, black, rng)
        if self.flips:
            flip = torch.randint(2, (len(inputs), 1, 1, 1), generator=rng).bool()
            inputs = torch.where(flip.to(inputs.device), inputs.flip(3), inputs)
        return inputs

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy."""
        return F.cross_entropy(outputs, targets)

    @model_validator(mode="after")
    def _limits_within_split(self) -> Self:
        for split, limit in (("train", self.train_limit), ("test", self.test_limit)):
            if limit is not None and limit > self.sizes[split]:
                raise ValueError(
                    f"{split}_limit {limit} is more than the {self.sizes[split]} {split} "
                    f"examples of '{self.name}'"
                )
        return self


def balanced(classes: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Return positions of the first `limit` examples, equally many a class, in their order.

    The first `limit % 10` classes give one more. Raises `ValueError` where a class has too few.
    """
    positions = []
    for label in range(CLASSES):
        wanted = limit // CLASSES + (label < limit % CLASSES)
        found = np.flatnonzero(classes == label)
        if len(found) < wanted:
            least = np.bincount(classes, minlength=CLASSES).min()
            raise ValueError(
                f"{limit} needs {wanted} of class {label}, which has {len(found)}; at most "
                f"{least * CLASSES} can be balanced, and {len(classes)} is the whole split"
            )
        positions.append(found[:wanted])
    return np.sort(np.concatenate(positions))


def cropped(images: Tensor, padding: int, border: Tensor, rng: Generator) -> Tensor:
    """Pad images (n, c, h, w) with `border` (c, 1, 1), then crop each at random to (h, w)."""
    count, _, height, width = images.shape
    padded = border.repeat(count, 1, height + 2 * padding, width + 2 * padding)
    padded[:, :, padding : padding + height, padding : padding + width] = images
    corners = torch.randint(2 * padding + 1, (2, count, 1), generator=rng)
    rows = (corners[0] + torch.arange(height)).to(images.device)
    columns = (corners[1] + torch.arange(width)).to(images.device)
    each = torch.arange(count, device=images.device)[:, None, None]
    found = padded[each, :, rows[:, :, None], columns[:, None, :]]  # (n, h, w, c)
    return found.permute(0, 3, 1, 2).contiguous()


def _channels(values: Sequence[float]) -> Tensor:
    """Return a value a channel as (c, 1, 1), to broadcast over images."""
    return torch.tensor(values, dtype=torch.float32)[:, None, None]
