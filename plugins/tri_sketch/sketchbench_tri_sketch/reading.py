"""A reading: one layer's way of keeping its input A (rows, d), and the gradient it gives back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn


class Reading(nn.Module):
    """What one linear layer keeps instead of its input A (rows, d).

    A module so that what lives from step to step (an EMA, fixed projections) is in the model's
    state dict and moves with it; seeds and counters are its extra state. Every reading is linear
    in δ: `gradient(δ, …)` is δᵀÂ for some Â (rows, d) that depends on what was kept alone.
    """

    method: ClassVar[str]  # the recipe's name, for errors
    twice: ClassVar[bool] = False  # what is kept is linear in A: may be differentiated again
    looks_ahead: ClassVar[bool] = False  # `keep` needs the layer's output after its non-linearity
    moves: bool = True  # what is kept depends on the passes before, not on A alone

    @abstractmethod
    def keep(
        self, rows: Tensor, outputs: Tensor | None, update: bool
    ) -> tuple[Sequence[Tensor], Any]:
        """Return what is kept of A (rows, d): tensors, and a note that holds no tensor.

        All comes in float32 at least, and autocast is off. `outputs` (rows, m) comes only to
        readings that look ahead. `update` is false where state
        must not move: in a recomputation. Makes what it keeps within `category("sketch")`. A
        reading that is `twice` computes the tensors by operations that autograd can differentiate
        and that keep nothing of A's size; others run without gradients.
        """

    @abstractmethod
    def gradient(self, delta: Tensor, kept: Sequence[Tensor], note: Any) -> Tensor:
        """Return the weight gradient (m, d) from δ (rows, m), the loss's gradient by the output.

        In float32 at least; the caller rounds it to the weight's type.
        """

    def error(self) -> Tensor | None:
        """Return the squared relative a-posteriori error of the steps since the last call, or None.

        A scalar on the layer's device, averaged over steps; for controllers that ask for it.
        """
        return None

    def resize(self, rank: int) -> None:
        """Start anew with another rank: sketches, projections and counters together."""
        raise NotImplementedError(f"{self.method} has no rank to change")
