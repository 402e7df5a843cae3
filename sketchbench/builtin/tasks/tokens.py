"""Next-token prediction: what language tasks share, and random tokens to measure costs with."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F

from sketchbench import Field, Shapes, Split, Task

if TYPE_CHECKING:
    from torch import Tensor


class NextToken(Task):
    """Windows of tokens, each token's target being the next; outputs are logits (n, T, V)."""

    context: int = Field(128, ge=1, description="T, tokens a window.")

    @abstractmethod
    def count(self, split: Literal["train", "test"]) -> int:
        """Return the number of windows in a split."""

    def blank(self, split: Literal["train", "test"]) -> Split:
        """Return a split of windows (n, T) of one and the same token; reads nothing."""
        shape = (self.count(split), self.context)
        return Split(torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross entropy of all tokens, in nats a token."""
        return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())


class RandomTokens(NextToken):
    """Tokens drawn uniformly, once and for all: for memory and time, where content doesn't matter.

    Accuracy and loss on it mean nothing: no token says anything of the next, so no model does
    better than ln V nats but by heart. A test example takes 4·T·V bytes to evaluate.
    """

    name = "random-tokens"
    vocabulary: int = Field(256, ge=1, description="V, the number of different tokens.")
    examples: int = Field(256, ge=1, description="Windows to train on.")
    test_examples: int = Field(8, ge=1, description="Windows to evaluate.")

    @property
    def shapes(self) -> Shapes:
        """One window (context,), and an output a token of the vocabulary."""
        return Shapes((self.context,), self.vocabulary)

    def count(self, split: Literal["train", "test"]) -> int:
        """Return the number of windows asked for."""
        return self.examples if split == "train" else self.test_examples

    def load(self, split: Literal["train", "test"]) -> Split:
        """Draw one split; the two have seeds of their own."""
        rng = torch.Generator().manual_seed(0 if split == "train" else 1)
        shape = (self.count(split), self.context + 1)
        tokens = torch.randint(self.vocabulary, shape, generator=rng)
        return Split(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous())
