"""Parts of a task: half of its training examples, or some of its classes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal, Self

import torch
from pydantic import model_validator

from sketchbench import Field, Shapes, Split, Task

if TYPE_CHECKING:
    from torch import Generator, Tensor


class _Part(Task):
    """A task of which `kept` chooses examples; all else is the task's own."""

    task: Task = Field(description="The whole.")

    @abstractmethod
    def kept(self, split: Split, which: Literal["train", "test"]) -> Split:
        """Return the part of a split."""

    @property
    def shapes(self) -> Shapes:
        """The task's own."""
        return self.task.shapes

    def prepare(self, progress: Callable[[str], None]) -> None:
        """Fetch what the task needs."""
        self.task.prepare(progress)

    def load(self, split: Literal["train", "test"]) -> Split:
        """Return the part of one split; raise `Skip` if the data is missing."""
        return self.kept(self.task.load(split), split)

    def blank(self, split: Literal["train", "test"]) -> Split:
        """Return a split of the part's shapes whose values mean nothing."""
        return self.kept(self.task.blank(split), split)

    def transform(self, inputs: Tensor, rng: Generator, step: int) -> Tensor:
        """Augment as the task does."""
        return self.task.transform(inputs, rng, step)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the task's loss."""
        return self.task.loss(outputs, targets)


class Half(_Part):
    """The first or the second half of a task's training examples, in their order; all test ones.

    Of a text, whose windows are in the order of the text, it is half of the text: what a model
    has learnt of one half is fine-tuned on the other.
    """

    name = "half"
    part: Literal["first", "second"] = Field("first", description="Which half.")

    def kept(self, split: Split, which: Literal["train", "test"]) -> Split:
        """Return the half of a training split; a middle example is in the second."""
        middle = len(split.targets) // 2
        if which == "test":
            return split
        part = slice(None, middle) if self.part == "first" else slice(middle, None)
        return Split(split.inputs[part], split.targets[part])


class SomeClasses(_Part):
    """The examples of some classes of a task, counted anew from 0 in the order given."""

    name = "some-classes"
    classes: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (0, 1, 2), min_length=2, description="The classes kept."
    )

    @model_validator(mode="after")
    def _classes_exist(self) -> Self:
        known = self.task.shapes.outputs
        if max(self.classes) >= known or len(set(self.classes)) < len(self.classes):
            raise ValueError(
                f"some-classes: classes {list(self.classes)} must be different ones of 0 to "
                f"{known - 1} of '{self.task.name}'"
            )
        return self

    @property
    def shapes(self) -> Shapes:
        """The task's inputs, and an output a class that is kept."""
        return Shapes(self.task.shapes.inputs, len(self.classes))

    def blank(self, split: Literal["train", "test"]) -> Split:
        """Return a split of the right shapes, of the first class alone."""
        found = self.load(split)
        return Split(torch.zeros_like(found.inputs), torch.zeros_like(found.targets))

    def kept(self, split: Split, which: Literal["train", "test"]) -> Split:
        """Return the examples of these classes, in their order."""
        if split.targets.dim() != 1:
            raise ValueError(f"some-classes: '{self.task.name}' has no class an example")
        places = torch.full((self.task.shapes.outputs,), -1)
        places[list(self.classes)] = torch.arange(len(self.classes))
        targets = places[split.targets]
        return Split(split.inputs[targets >= 0], targets[targets >= 0])
