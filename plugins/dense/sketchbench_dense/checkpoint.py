"""Checkpointing: keep what enters a few layers, and compute the rest again for the backward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import groupby

import torch
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from sketchbench import ActivationSketch, Field, SketchedModel, Skip
from sketchbench.autodiff import Plain, blocks, replaced


class Checkpoint(ActivationSketch):
    """Keep the inputs of segments alone; the gradient is exact. [Chen et al. 2016]

    A segment runs from a block (`sketchbench.autodiff.blocks`) up to the next one. In a flat
    stack of linear layers and ReLUs single blocks save nothing: take the root of their number.
    """

    name = "checkpoint"
    every: int = Field(1, ge=1, description="Neighbouring blocks in one segment.")

    def build(self, model: nn.Module, batch_size: int, rng: Generator) -> SketchedModel:
        """Wrap the model's segments; raise `Skip` for a model without blocks."""
        return Plain(checkpointed(model, self.every))


def checkpointed(model: nn.Module, every: int = 1) -> nn.Module:
    """Return `model` with each `every` neighbouring blocks recomputed in the backward pass."""
    try:
        found = [name.rpartition(".")[::2] for name, _ in blocks(model)]
    except ValueError as error:
        raise Skip(f"checkpoint: {error}") from None
    copy = replaced(model, {})  # so that train() and eval() leave the original's layers alone
    swaps = {
        parent: _segmented(copy.get_submodule(parent), [child for _, child in members], every)
        for parent, members in groupby(found, key=lambda name: name[0])
    }
    return replaced(copy, swaps)


def _segmented(sequence: nn.Module, names: list[str], every: int) -> nn.Sequential:
    """Return the sequence with its layers, from the blocks `names` on, in segments."""
    if type(sequence).forward is not nn.Sequential.forward:
        raise Skip(f"checkpoint: {type(sequence).__name__} has a forward of its own")
    layers = list(sequence._modules)  # a layer that occurs twice is here twice
    starts = [layers.index(name) for name in names[::every]]
    modules = [module for module in sequence._modules.values() if module is not None]
    segments = [
        _Segment(modules[start:stop])
        for start, stop in zip(starts, [*starts[1:], len(modules)], strict=True)
    ]
    return nn.Sequential(*modules[: starts[0]], *segments)


class _Segment(nn.Module):
    """Layers of which only the input is kept for the backward pass."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            out = self.layers(x)
        else:
            out = checkpoint(self.layers, x, use_reentrant=False, context_fn=self._contexts)
        assert isinstance(out, Tensor)
        return out

    def _contexts(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _kept_statistics(self.layers)


@contextmanager
def _kept_statistics(layers: nn.Module) -> Iterator[None]:
    """Let normalisations update copies of their running statistics: they saw this batch once."""
    norms = [module for module in layers.modules() if isinstance(module, _NormBase)]
    kept = [module._buffers for module in norms]
    for module in norms:
        module._buffers = {
            name: None if buffer is None else buffer.clone()
            for name, buffer in module._buffers.items()
        }
    try:
        yield
    finally:
        for module, buffers in zip(norms, kept, strict=True):
            module._buffers = buffers
