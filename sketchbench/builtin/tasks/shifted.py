"""A distribution that shifts while a model learns it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import model_validator

from sketchbench import Field, Shapes, Split, Task

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Shifted(Task):
    """An image task whose training data changes: turned or noisy from a step on, or by classes.

    `rotation` turns each image by `angle`, bilinearly, and continues it beyond its border;
    `noise` adds Gaussian noise, in the units of standardised pixels; both after the task's own
    augmentation. `classes` visits the classes one after another, or `group` at a time, in
    every epoch: batches are drawn from one group, but for those in which one ends.
    """

    name = "shifted"
    task: Task = Field(description="The images.")
    shift: Literal["rotation", "noise", "classes"] = Field(
        "rotation", description="What changes: how images look, or the order in which they come."
    )
    at: int = Field(0, ge=0, description="The first step with rotated or noisy images.")
    angle: float = Field(30.0, description="Degrees of a rotation, counter-clockwise.")
    std: float = Field(0.5, gt=0, description="Standard deviation of the noise.")
    group: int = Field(1, ge=1, description="Classes that come together.")
    test_shifted: bool = Field(
        False, description="Whether test images are shifted as well (with one draw of the noise)."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.task.shapes.inputs) != 3:
            raise ValueError(
                f"shifted: needs images (channels, height, width); '{self.task.name}' has inputs "
                f"of shape {self.task.shapes.inputs}"
            )
        if self.shift == "classes" and (self.at or self.test_shifted):
            raise ValueError(
                "shift 'classes' orders every epoch, and test data has no order: leave out 'at' "
                "and 'test_shifted'"
            )
        return self

    @property
    def shapes(self) -> Shapes:
        """The task's own."""
        return self.task.shapes

    def prepare(self, progress: Callable[[str], None]) -> None:
        """Fetch what the task needs."""
        self.task.prepare(progress)

    def load(self, split: Literal["train", "test"]) -> Split:
        """Return the task's split; the test images are shifted if asked for."""
        found = self.task.load(split)
        if split == "train" or not self.test_shifted:
            return found
        return Split(self._shifted(found.inputs, torch.Generator().manual_seed(0)), found.targets)

    def blank(self, split: Literal["train", "test"]) -> Split:
        """Return the task's blank split."""
        return self.task.blank(split)

    def transform(self, inputs: Tensor, rng: Generator, step: int) -> Tensor:
        """Augment as the task does; from step `at` on, turn the images or add noise."""
        inputs = self.task.transform(inputs, rng, step)
        return self._shifted(inputs, rng) if step >= self.at else inputs

    def order(self, targets: Tensor, rng: Generator) -> Tensor:
        """Return the task's order, sorted by groups of classes if the shift is `classes`."""
        order = self.task.order(targets, rng)
        if self.shift != "classes":
            return order
        return order[torch.argsort(targets[order] // self.group, stable=True)]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the task's loss."""
        return self.task.loss(outputs, targets)

    def _shifted(self, inputs: Tensor, rng: Generator) -> Tensor:
        if self.shift == "rotation":
            return rotated(inputs, self.angle)
        if self.shift == "noise":
            noise = torch.randn(inputs.shape, generator=rng)
            return inputs + self.std * noise.to(inputs)
        return inputs


def rotated(images: Tensor, angle: float) -> Tensor:
    """Turn images (n, c, h, w) counter-clockwise about their centres by `angle` degrees.

    Bilinear; a point beyond the border has the value of the nearest border pixel.
    """
    height, width = images.shape[-2:]
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turn = [[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]]
    grid = F.affine_grid(torch.tensor([turn]), [1, 1, height, width], align_corners=False)
    grid = grid.to(images).expand(len(images), -1, -1, -1)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)
