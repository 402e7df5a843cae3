"""Storages: which memory is behind a tensor, and when it dies."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils.hooks import RemovableHandle

T = TypeVar("T")

_COMPRESSED = {
    torch.sparse_csr: ("crow_indices", "col_indices"),
    torch.sparse_bsr: ("crow_indices", "col_indices"),
    torch.sparse_csc: ("ccol_indices", "row_indices"),
    torch.sparse_bsc: ("ccol_indices", "row_indices"),
}


def dense(tensor: Tensor) -> Iterator[Tensor]:
    """Yield the dense tensors that hold the data of one: sparse and wrapper tensors have several.

    Accessors of sparse tensors make new tensors on the same storages.
    """
    if tensor._is_zerotensor():
        return  # what autograd has for zeros: a shape with no memory behind it
    if is_traceable_wrapper_subclass(tensor):
        for name in tensor.__tensor_flatten__()[0]:
            yield from dense(getattr(tensor, name))
    elif tensor.layout is torch.sparse_coo:
        yield tensor._indices()
        yield tensor._values()
    elif tensor.layout in _COMPRESSED:
        for name in _COMPRESSED[tensor.layout]:
            yield getattr(tensor, name)()
        yield tensor.values()
    else:
        yield tensor


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield every tensor in nested lists, tuples, sets, mappings and what has them as fields."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from tensors(item)
    elif hasattr(value, "__dataclass_fields__"):
        for name in value.__dataclass_fields__:
            yield from tensors(getattr(value, name, None))


def storage(tensor: Tensor) -> Any:
    """Return the object that lives as long as the memory behind a dense tensor."""
    try:
        return tensor.untyped_storage()
    except NotImplementedError:  # opaque layouts (mkldnn) have a buffer, but no storage
        return tensor


def size(memory: Any) -> int:
    """Return the bytes of a storage, or of a tensor that has none."""
    return int(memory.nbytes() if isinstance(memory, torch.UntypedStorage) else memory.nbytes)


def is_on(tensor: Tensor, device: torch.device) -> bool:
    """Whether a tensor is on `device`, or on any of its type where that has no index."""
    found = tensor.device
    return found.type == device.type and device.index in (None, found.index)


def unique_bytes(found: Iterable[Tensor]) -> int:
    """Return the bytes of the storages behind tensors, each counted once and whole."""
    memories = {id(m): m for t in found for d in dense(t) for m in (storage(d),)}
    return sum(size(memory) for memory in memories.values())


class WeakStorages(Generic[T]):
    """Values by storage, each forgotten when its storage dies.

    By identity of the storage object, which torch keeps as long as the memory lives: an address
    may be another storage's a moment later, and fake tensors have none.
    """

    def __init__(self, died: Callable[[T], None] = lambda value: None) -> None:
        self._died = died
        self._held: dict[int, tuple[weakref.ref[Any], T]] = {}

    def get(self, memory: Any) -> T | None:
        """Return the value of a storage, or None."""
        held = self._held.get(id(memory))
        return held[1] if held is not None and held[0]() is memory else None

    def set(self, memory: Any, value: T) -> None:
        """Give a storage a value."""
        key = id(memory)

        def dead(ref: weakref.ref[Any]) -> None:
            held = self._held.get(key)
            if held is not None and held[0] is ref:
                del self._held[key]
            self._died(value)

        self._held[key] = (weakref.ref(memory, dead), value)

    def items(self) -> list[tuple[Any, T]]:
        """Return every storage that lives, with its value."""
        held = [(ref(), value) for ref, value in list(self._held.values())]
        return [(memory, value) for memory, value in held if memory is not None]

    def clear(self) -> None:
        """Forget everything; nothing is told to have died."""
        self._held.clear()


def state_bytes(optimizer: torch.optim.Optimizer | None, device: torch.device) -> dict[str, int]:
    """Return the bytes of an optimizer's state on `device`, by the part that it is declared as.

    An optimizer's `state_parts` maps keys of its state to parts (`momentum`, `sketch`, …); what
    it doesn't map is `rest`. A storage under two keys counts for the first.
    """
    if optimizer is None:
        return {}
    parts: Mapping[str, str] = getattr(optimizer, "state_parts", {})
    found: dict[str, list[Tensor]] = {}
    seen: set[int] = set()
    for state in optimizer.state.values():
        for key, value in (state if isinstance(state, dict) else {"": state}).items():
            for tensor in (d for t in tensors(value) for d in dense(t)):
                if is_on(tensor, device) and id(storage(tensor)) not in seen:
                    seen.add(id(storage(tensor)))
                    found.setdefault(parts.get(key, "rest"), []).append(tensor)
    return {part: unique_bytes(each) for part, each in found.items()}


def hook_first(leaf: Tensor, hook: Callable[[Tensor], None]) -> Callable[[], None]:
    """Call `hook` when a leaf's gradient has arrived, before hooks that may drop it; return undo.

    An optimizer that steps inside the backward pass frees each gradient in a hook of its own.
    """
    earlier = dict(getattr(leaf, "_post_accumulate_grad_hooks", None) or {})
    handle: RemovableHandle = leaf.register_post_accumulate_grad_hook(hook)
    hooks: Any = leaf._post_accumulate_grad_hooks
    for key in earlier:  # torch calls them in the order of insertion
        del hooks[key]
    hooks.update(earlier)
    return handle.remove


def noticing_resizes(notice: Callable[[torch.UntypedStorage], None]) -> Callable[[], None]:
    """Tell `notice` when a storage is resized below the dispatcher; return what undoes it."""
    resize = torch.UntypedStorage.resize_

    def noticed(self: torch.UntypedStorage, size: int) -> Any:
        out = resize(self, size)
        notice(self)
        return out

    own = "resize_" in vars(torch.UntypedStorage)
    torch.UntypedStorage.resize_ = noticed  # type: ignore[method-assign, assignment]

    def undo() -> None:
        if own:
            torch.UntypedStorage.resize_ = resize  # type: ignore[method-assign]
        else:
            del torch.UntypedStorage.resize_

    return undo
