"""Keeping: which module keeps which tensor for the backward pass, and with whom it shares it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import graph
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from sketchbench.measure.ledger import Footprint
from sketchbench.measure.live_bytes import NO_TASK, LiveBytes, graph_task
from sketchbench.measure.storages import dense, storage
from sketchbench.protocols import Watched

NOWHERE = ""  # the model itself, or outside of every module: the loss, say


@dataclass(frozen=True)
class Kept:
    """One storage that is kept for the backward pass.

    `born` is the module in which it was made, by operation `op`; `keepers` those that saved it for
    their backward, in order; a checkpoint's input is kept where the checkpoint was called. Without
    keepers it is held some other way: as an attribute of an autograd context, in a closure, or by
    a reference such as the loss itself.
    """

    size: int
    shape: tuple[int, ...]
    dtype: str
    op: str
    category: str
    born: str
    keepers: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Keepings:
    """All that the largest backward pass of a region keeps; modules by name in their order."""

    total: int
    kept: Sequence[Kept]
    modules: Sequence[tuple[str, str]]  # name and class, in the model's order


class Keeping:
    """A meter of what is kept: live bytes, with the module at work and the savers of each storage.

    Saved tensors are seen by hooks, which torch refuses under `torch.func` transforms: there they
    step aside. What is kept is found by its being alive, so a hook that misses a tensor loses its
    keeper, no bytes.
    """

    def __init__(self, device: torch.device, watched: Watched) -> None:
        self._watched = watched
        self._live = LiveBytes(device, watched, module=self._module)
        self._stack: list[nn.Module] = []
        self._names: dict[nn.Module, str] = {}
        self._undo: list[Any] = []
        self._hooks = graph.saved_tensors_hooks(self._pack, lambda kept: kept)
        self._disable = graph.disable_saved_tensors_hooks

    def start(self) -> None:
        """Begin a reading."""
        model = self._watched.model
        self._names = {m: name for name, m in model.named_modules()} if model is not None else {}
        self._stack.clear()
        self._undo = [
            register_module_forward_pre_hook(lambda module, _: self._stack.append(module)),
            register_module_forward_hook(self._leave, always_call=True),
        ]
        try:
            self._live.start()
        except BaseException:
            self._unhook()
            raise
        self._hooks.__enter__()
        self._disable = graph.disable_saved_tensors_hooks
        graph.disable_saved_tensors_hooks = self._aside  # type: ignore[assignment]

    def stop(self) -> Keepings:
        """End it and return what was kept."""
        graph.disable_saved_tensors_hooks = self._disable
        self._hooks.__exit__()
        self._unhook()
        footprint = self._live.stop()
        modules = [(name, type(module).__name__) for module, name in self._names.items()]
        return Keepings(sum(footprint.kept.values()), _kept(footprint), modules)

    def _unhook(self) -> None:
        for handle in self._undo:
            handle.remove()

    @contextmanager
    def _aside(self, message: str) -> Iterator[None]:
        """Take this meter's hooks off while others say that no hooks can be had."""
        top = torch._C._autograd._top_saved_tensors_default_hooks(True)
        ours = top is not None and top[0] == self._pack
        if ours:
            self._hooks.__exit__()
        try:
            with self._disable(message):
                yield
        finally:
            if ours:
                self._hooks.__enter__()

    def _leave(self, module: nn.Module, *_: Any) -> None:
        while self._stack and self._stack.pop() is not module:
            """A module that failed half-way leaves its children on the stack."""

    def _module(self) -> str:
        """Return the innermost module of the model that is at work."""
        known = (self._names[m] for m in reversed(self._stack) if m in self._names)
        return next(known, NOWHERE)

    def _pack(self, tensor: Tensor) -> Tensor:
        if graph_task() != NO_TASK:
            return tensor.detach()  # computed again for a backward pass that has begun
        for each in dense(tensor):
            block = self._live.block(storage(each))
            if block is not None and self._module() not in block.keepers:
                block.keepers.append(self._module())
        return tensor.detach()  # a node that kept its own output would never die


def _kept(footprint: Footprint) -> list[Kept]:
    return [
        Kept(
            size=block.size,
            shape=block.shape,
            dtype=block.dtype,
            op=block.op,
            category=block.category,
            born=block.module,
            keepers=tuple(block.keepers),
        )
        for block in footprint.kept_blocks
    ]
