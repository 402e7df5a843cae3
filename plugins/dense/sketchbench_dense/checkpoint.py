"""Checkpointing: keep what enters a few layers, and compute the rest again for the backward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import groupby
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils.checkpoint import checkpoint

from sketchbench import ActivationSketch, Field, SketchedModel, Skip
from sketchbench.autodiff import Plain, blocks, replaced

Buffers = list[dict[str, Tensor | None]]  # those of each module


class Checkpoint(ActivationSketch):
    """Keep the inputs of segments alone; the gradient is exact. [Chen et al. 2016]

    A segment runs from a block (`sketchbench.autodiff.blocks`) up to the next one. In a flat
    stack of linear layers and ReLUs single blocks save nothing: take the root of their number.
    """

    name = "checkpoint"
    every: int = Field(1, ge=1, description="Neighbouring blocks in one segment.")

    def build(self, model: nn.Module, batch_size: int, rng: Generator) -> SketchedModel:
        """Wrap the model's segments; raise `Skip` for a model without blocks.

        The first step raises `Skip` for a model that takes its sequence of blocks apart.
        """
        return Plain(checkpointed(model, self.every))

    def break_even(self, width: int) -> int | None:
        """Return 1 from two blocks a segment on; None for one, whose input the ReLU keeps.

        Without the random state of each segment, 5 kB in the host's memory.
        """
        return 1 if self.every > 1 else None


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
    segmented = replaced(copy, swaps)
    if "" not in swaps:
        _verify_once(segmented, model)
    return segmented


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
        return nullcontext(), _as_before(self.layers, _cloned_buffers(self.layers))


@contextmanager
def _as_before(layers: nn.Module, buffers: Buffers) -> Iterator[None]:
    """Let layers start from, and update, buffers of their own: the live ones saw this batch."""
    live = [module._buffers for module in layers.modules()]
    _lend(layers, [{name: _clone(buffer) for name, buffer in own.items()} for own in buffers])
    try:
        yield
    finally:
        _lend(layers, live)


def _cloned_buffers(module: nn.Module) -> Buffers:
    return [
        {name: _clone(buffer) for name, buffer in each._buffers.items()}
        for each in module.modules()
    ]


def _lend(module: nn.Module, buffers: Buffers) -> None:
    for each, own in zip(module.modules(), buffers, strict=True):
        each._buffers = own


def _clone(buffer: Tensor | None) -> Tensor | None:
    return None if buffer is None else buffer.clone()


# ---------------------------------------------------------------- models that take layers apart


def _verify_once(segmented: nn.Module, original: nn.Module) -> None:
    """Let the first forward with gradients raise `Skip` if it isn't the original's, to the bit.

    A model with a forward of its own may take its sequence apart (collect what each layer
    returns, say) where segments have taken the layers' places. Compared are structural copies
    with buffers of their own, from one random state: what the models hold stays as it is.
    """

    def verify(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        fake = any(isinstance(x, FakeTensor) for x in inputs)  # no values, nothing to compare
        if fake or not torch.is_grad_enabled():
            return
        handle.remove()
        exact = _tried(original, inputs, module.training)
        try:
            same = _equal(_tried(module, inputs, module.training), exact)
        except (AttributeError, IndexError, KeyError, TypeError):
            same = False
        # one that doesn't repeat itself has nothing to be compared with
        if not same and _equal(_tried(original, inputs, module.training), exact):
            raise Skip(
                f"checkpoint: {type(original).__name__} takes its nn.Sequential apart instead of "
                "calling it, so that segments would change what it computes"
            )

    handle = segmented.register_forward_pre_hook(verify)


def _tried(model: nn.Module, inputs: tuple[Any, ...], training: bool) -> Any:
    twin = replaced(model, {}).train(training)
    _lend(twin, _cloned_buffers(twin))
    devices = [x.device for x in inputs if isinstance(x, Tensor) and x.is_cuda]
    with torch.random.fork_rng(devices), torch.no_grad():
        return twin(*inputs)


def _equal(left: Any, right: Any) -> bool:
    return torch.allclose(left, right, rtol=0, atol=0, equal_nan=True)
