"""One class against others: a task of many classes as a task of two, with one output."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import model_validator

from sketchbench import Field, Shapes, Split, Task

if TYPE_CHECKING:
    from torch import Tensor


class Binary(Task):
    """A classification task with some classes as 1 and the others as 0, for a linear predictor.

    Inputs are flattened, and end with an intercept of 1. One output, of class 1 where positive.
    """

    name = "binary"
    task: Task = Field(description="The task of many classes.")
    positive: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (1, 3, 5, 7, 9), min_length=1, description="The classes that are 1; odd digits by default."
    )

    @property
    def shapes(self) -> Shapes:
        """The entries of an input and an intercept, and one output."""
        return Shapes((torch.Size(self.task.shapes.inputs).numel() + 1,), 1)

    def prepare(self, progress: Callable[[str], None]) -> None:
        """Fetch and verify what the task does."""
        self.task.prepare(progress)

    def load(self, split: Literal["train", "test"]) -> Split:
        """Return one split; raise `Skip` if the data is missing."""
        return self._reduced(self.task.load(split))

    def blank(self, split: Literal["train", "test"]) -> Split:
        """Return a split of the right shapes whose values mean nothing."""
        return self._reduced(self.task.blank(split))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean logistic loss of outputs (n, 1)."""
        return F.binary_cross_entropy_with_logits(outputs.squeeze(-1), targets.to(outputs))

    def _reduced(self, split: Split) -> Split:
        inputs = F.pad(split.inputs.flatten(1), (0, 1), value=1.0)
        return Split(inputs, torch.isin(split.targets, torch.tensor(self.positive)).long())

    @model_validator(mode="after")
    def _classes_exist(self) -> Self:
        classes = self.task.shapes.outputs
        beyond = [label for label in self.positive if label >= classes]
        if beyond or len(set(self.positive)) in (0, classes):
            raise ValueError(
                f"binary: positive {list(self.positive)} must be some but not all of the classes "
                f"0 to {classes - 1} of '{self.task.name}'"
            )
        return self
