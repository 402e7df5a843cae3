"""Micro-batching: the exact gradient of a batch, a few rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Self

import torch
from pydantic import model_validator
from torch import Generator, Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from sketchbench import ActivationSketch, Field, SketchedModel, Skip
from sketchbench_dense.checkpoint import checkpointed

Loss = Callable[[Tensor, Tensor], Tensor]


class MicroBatch(ActivationSketch):
    """Forward and backward of a few rows at a time; gradients add up to the batch's own.

    Exact for a loss that is a mean over rows; refused where statistics couple the rows of a
    batch (batch normalisation). Dropout draws other masks than the whole batch would.
    Recomputing a checkpointed segment comes on top of `bytes`.
    """

    name = "micro-batch"
    rows: int | None = Field(None, ge=1, description="Rows of a micro-batch.")
    bytes: int | None = Field(
        None, ge=1, description="Instead of rows: bytes that one may keep for its backward pass."
    )
    checkpoint: int | None = Field(
        None, ge=1, description="Blocks per checkpointed segment; null: no checkpointing."
    )

    @model_validator(mode="after")
    def _has_one_size(self) -> Self:
        if (self.rows is None) == (self.bytes is None):
            raise ValueError("activation_sketch 'micro-batch' needs one of 'rows' and 'bytes'")
        return self

    def build(self, model: nn.Module, batch_size: int, rng: Generator) -> SketchedModel:
        """Return the model, fed in micro-batches; raise `Skip` for batch normalisation."""
        for name, module in model.named_modules():
            running = isinstance(module, _NormBase) and module.track_running_stats
            if isinstance(module, _BatchNorm) or running:
                raise Skip(
                    f"micro-batch: '{name}' ({type(module).__name__}) keeps statistics of whole "
                    "batches, so micro-batches would not be exact"
                )
        if self.checkpoint is not None:
            model = checkpointed(model, self.checkpoint)
        return _MicroBatched(model, self.rows, self.bytes)

    def break_even(self, width: int) -> int | None:
        """Return one row more than a micro-batch has, at most; 1 with segments of two blocks.

        How many rows `bytes` takes goes by the depth: one hidden layer takes the most.
        """
        if self.checkpoint is not None and self.checkpoint > 1:
            return 1
        if self.rows is not None:
            return self.rows + 1
        assert self.bytes is not None
        return self.bytes // (4 * width) + 1


class _MicroBatched:
    def __init__(self, model: nn.Module, rows: int | None, budget: int | None) -> None:
        self.model = model
        self._rows = rows
        self._budget = budget  # bytes

    def accumulate(self, inputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
        """Add the batch's mean gradient to `.grad`; the last micro-batch may be smaller."""
        if self._rows is None:
            assert self._budget is not None
            self._rows = fitting_rows(self.model, inputs, targets, loss, self._budget)
        parts = []
        for x, y in zip(*(torch.split(t, self._rows) for t in (inputs, targets)), strict=True):
            part = loss(self.model(x), y) * (len(x) / len(inputs))
            part.backward()  # type: ignore[no-untyped-call]
            parts.append(part.detach())
        return torch.stack(parts).sum()

    def end_epoch(self, loss: float) -> tuple[()]:
        """Adapt to nothing."""


def fitting_rows(model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss, budget: int) -> int:
    """Return how many rows keep at most `budget` bytes for the backward pass; at least one.

    One and two rows tell the slope; where the count that it gives doesn't fit, bisection finds
    one that does. Forward passes alone: gradients and random state stay as they are. Raises
    `Skip` where one row is too much.
    """

    def kept(rows: int) -> int:
        return saved_bytes(model, inputs[:rows], targets[:rows], loss)

    one = kept(1)
    if one > budget:
        raise Skip(f"micro-batch: one row keeps {one} bytes, more than bytes={budget}")
    slope = max(1, kept(min(2, len(inputs))) - one)
    rows = min(len(inputs), 1 + (budget - one) // slope)
    if kept(rows) <= budget:
        return rows
    fits, bursts = 1, rows
    while bursts - fits > 1:
        middle = (fits + bursts) // 2
        fits, bursts = (middle, bursts) if kept(middle) <= budget else (fits, middle)
    return fits


def saved_bytes(model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss) -> int:
    """Return the bytes that one forward pass keeps for its backward pass.

    Each storage counts once and whole; parameters, buffers and the batch itself, which are there
    anyway, don't count.
    """
    owned = _storages([*model.parameters(), *model.buffers(), inputs, targets])
    saved: dict[int, torch.UntypedStorage] = {}

    def note(tensor: Tensor) -> Tensor:
        saved.update(_storages([tensor]))
        return tensor.detach()  # the output of a node would keep itself alive

    devices = [inputs.device] if inputs.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        torch.enable_grad(),
        saved_tensors_hooks(note, lambda tensor: tensor),
    ):
        graph = loss(model(inputs), targets)  # holds what is saved until it has been counted
    del graph
    return sum(storage.nbytes() for key, storage in saved.items() if key not in owned)


def _storages(tensors: Iterable[Tensor]) -> dict[int, torch.UntypedStorage]:
    """Return the storages behind `tensors` by their identity, which they keep while they live.

    The address of the data would not do: fake tensors have none.
    """
    storages = [tensor.untyped_storage() for tensor in tensors]
    return {storage._cdata: storage for storage in storages}
