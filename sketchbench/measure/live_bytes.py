"""Live bytes: every storage that a region keeps alive, by what it is for.

A dispatch mode sees each operation on real CPU, real CUDA and fake tensors alike. It counts
storages, not tensors: views and in-place operations add nothing, a resize changes one. What no
operation returns is below it: scratch memory inside kernels is the allocator's to tell, and so are
random states that checkpointing saves. Under any dispatch mode torch computes vectors for `svdvals`
and `eigvalsh`, too, and `torch.compile`d functions run uncompiled.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    is_traceable_wrapper_subclass_type,
)

from sketchbench.measure import labels
from sketchbench.measure.ledger import Block, Footprint, Ledger, Phase
from sketchbench.measure.storages import (
    WeakStorages,
    dense,
    hook_first,
    is_on,
    noticing_resizes,
    size,
    state_bytes,
    storage,
    tensors,
)
from sketchbench.protocols import Watched

graph_task: Callable[[], int] = torch._C._current_graph_task_id
NO_TASK = -1
_LIFT = torch.ops.aten.lift_fresh.default  # what a new constant comes in by
_SEED = torch.ops.aten.ones_like.default  # the gradient of a loss by itself


class LiveBytes(TorchDispatchMode):
    """Counts the storages of a region on one device; a meter, and a context manager for tools.

    Counted are what `watched` names, what carries a category, what an operation of the region
    reads (`external`, if it was there before and has no other name) and what is born in it.
    Phases are found: a backward pass by autograd's task, the optimizer by its own hooks, all else
    is forward. Cyclic garbage is collected before the region and not within it, so that ten
    readings are ten equal numbers.
    """

    def __init__(
        self,
        device: torch.device,
        watched: Watched,
        module: Callable[[], str] = lambda: "",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        self._watched = watched
        self._module = module
        self._undo: list[Callable[[], None]] = []
        self._blocks: WeakStorages[Block]
        self._reset()

    def __enter__(self) -> LiveBytes:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.footprint = self.stop()

    def start(self) -> None:
        """Begin with what is watched and alive."""
        self._collects = gc.isenabled()
        gc.collect()
        gc.disable()
        self._reset()
        self._blocks = WeakStorages(self._ledger.died)
        try:
            self._name_watched()
            self._hook()
        except BaseException:
            self._leave()
            raise
        super().__enter__()  # type: ignore[no-untyped-call]

    def stop(self) -> Footprint:
        """End, and return the footprint."""
        super().__exit__(None, None, None)  # type: ignore[no-untyped-call]
        try:
            self._name_watched()
            for memory, block in self._blocks.items():
                self._sized(memory, block)
                if block.label == "sketches":
                    labels.given.set(memory, block.label)
            return self._ledger.footprint(state_bytes(self._watched.optimizer, self._device))
        finally:
            self._leave()

    def _leave(self) -> None:
        while self._undo:
            self._undo.pop()()
        self._reset()
        if self._collects:
            gc.enable()

    def _reset(self) -> None:
        self._ledger = Ledger()
        self._blocks = WeakStorages()
        self._phase: Phase = "forward"
        self._task = NO_TASK
        self._last: Block | None = None

    def block(self, memory: Any) -> Block | None:
        """Return what is known of a storage (`storages.storage`) that is alive."""
        return self._blocks.get(memory)

    # ------------------------------------------------------------ what happens in the region

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if any(map(is_traceable_wrapper_subclass_type, types)):
            return NotImplemented  # its own operations come by, on the tensors inside
        task = graph_task()
        if task != self._task:
            self._task = task
            if task != NO_TASK:
                self._begin_backward()
        if func is not _LIFT:
            for tensor in tensors((args, kwargs)):
                self._found(tensor)
        out = func(*args, **(kwargs or {}))
        for tensor in tensors(out):
            self._made(tensor, func)
        return out

    def _begin_backward(self) -> None:
        if self._last is not None and self._last.op == str(_SEED):
            self._last.label = self._last.label or "gradients"
        self._ledger.begin_backward([block for _, block in self._blocks.items()])

    def _made(self, tensor: Tensor, func: Any) -> None:
        """Log the birth of what an operation returned, unless it is a view or was written to."""
        for each in dense(tensor):
            if not self._counts(each):
                continue
            memory = storage(each)
            known = self._blocks.get(memory)
            if known is not None:
                self._sized(memory, known)
                continue
            stack = labels.stack()
            block = self._last = Block(
                size=size(memory),
                phase=self._phase if self._task == NO_TASK else "backward",
                op=str(func),
                label=stack[-1] if stack else None,
                shape=tuple(each.shape),
                dtype=str(each.dtype).removeprefix("torch."),
                module=self._module(),
            )
            self._ledger.born(block)
            self._blocks.set(memory, block)

    def _found(self, tensor: Tensor, label: str | None = None) -> None:
        """Note storages that existed before; name them `label` where nothing else has."""
        for each in dense(tensor):
            if not self._counts(each):
                continue
            memory = storage(each)
            block = self._blocks.get(memory)
            if block is None:
                block = Block(
                    size=size(memory),
                    phase="before",
                    label=labels.given.get(memory),
                    shape=tuple(each.shape),
                    dtype=str(each.dtype).removeprefix("torch."),
                )
                self._ledger.was_there(block)
                self._blocks.set(memory, block)
            else:
                self._sized(memory, block)
            block.label = block.label or label

    def _sized(self, memory: Any, block: Block) -> None:
        now = size(memory)
        if now != block.size:
            self._ledger.resized(block, now)

    def _counts(self, tensor: Tensor) -> bool:
        return is_on(tensor, self._device)

    # ------------------------------------------------------------ who owns what

    def _name_watched(self) -> None:
        """Name what the model, the optimizer and the inputs own at this moment."""
        watched = self._watched
        if watched.model is not None:
            for parameter in watched.model.parameters():
                self._found(parameter.data, "parameters")
                self._name_gradient(parameter)
            for buffer in watched.model.buffers():
                self._found(buffer, "buffers")
        for tensor in tensors(watched.inputs):
            self._found(tensor, "inputs")
        self._name_state()

    def _name_gradient(self, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self._found(parameter.grad, "gradients")

    def _name_state(self) -> None:
        if self._watched.optimizer is not None:
            for tensor in tensors(dict(self._watched.optimizer.state)):
                self._found(tensor, "optimizer_state")
                for each in dense(tensor):
                    block = self._blocks.get(storage(each)) if self._counts(each) else None
                    if block is not None:
                        block.state = True

    def _hook(self) -> None:
        """Watch gradients arrive, the optimizer at work, and storages change their size."""
        model, optimizer = self._watched.model, self._watched.optimizer
        for parameter in model.parameters() if model is not None else ():
            if parameter.requires_grad and parameter.is_leaf and not is_lazy(parameter):
                self._undo.append(hook_first(parameter, self._name_gradient))
        if optimizer is not None:
            before = optimizer.register_step_pre_hook(self._optimizer_begins)
            after = optimizer.register_step_post_hook(self._optimizer_ends)
            self._undo += [before.remove, after.remove]
        self._undo.append(noticing_resizes(self._resized))

    def _resized(self, memory: torch.UntypedStorage) -> None:
        block = self._blocks.get(memory)
        if block is not None:
            self._sized(memory, block)

    def _optimizer_begins(self, optimizer: Any, args: Any, kwargs: Any) -> Any:
        """Enter the optimizer's phase; a closure that it calls is a forward pass again."""
        self._phase = "optimizer"
        return (
            tuple(map(self._forward_again, args)),
            {name: self._forward_again(value) for name, value in kwargs.items()},
        )

    def _forward_again(self, closure: Any) -> Any:
        if not callable(closure) or isinstance(closure, torch.optim.Optimizer):
            return closure

        @functools.wraps(closure)
        def evaluated(*args: Any, **kwargs: Any) -> Any:
            self._phase = "forward"
            try:
                return closure(*args, **kwargs)
            finally:
                self._phase = "optimizer"

        return evaluated

    def _optimizer_ends(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self._name_state()
        self._phase = "forward"
