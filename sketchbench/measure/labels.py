"""Labels: what plugins say that their memory is for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils._python_dispatch import (
    TorchDispatchMode,
    is_traceable_wrapper_subclass_type,
)

from sketchbench.measure.storages import WeakStorages, dense, storage, tensors

_NAMES = {"sketch": "sketches"}

given: WeakStorages[str] = WeakStorages()  # labels by storage, across regions
_local = threading.local()  # .stack: the labels of the blocks that this thread is in
_labelling = False


@contextmanager
def labelling() -> Iterator[None]:
    """Let `category` label storages outside of measured regions too; an audit runs in it."""
    global _labelling
    before, _labelling = _labelling, True
    try:
        yield
    finally:
        _labelling = before


class category:  # noqa: N801
    """Label what is born inside the block: a plugin makes its sketch in `category("sketch")`.

    It costs about a microsecond where no memory is being measured. Raises `ValueError` for a name
    that is no category of its own.
    """

    def __init__(self, name: str) -> None:
        if name not in _NAMES:
            raise ValueError(f"category '{name}': no such category; (known: {', '.join(_NAMES)})")
        self._label = _NAMES[name]
        self._modes: list[_Labeller] = []

    def __enter__(self) -> None:
        stack().append(self._label)
        if _labelling:  # in a measured region too: its own mode sees one thread
            mode = _Labeller()  # type: ignore[no-untyped-call]
            mode.__enter__()  # type: ignore[no-untyped-call]
            self._modes.append(mode)

    def __exit__(self, *error: Any) -> None:
        stack().pop()
        if self._modes:
            self._modes.pop().__exit__(*error)  # type: ignore[no-untyped-call]


def stack() -> list[str]:
    """Return the labels of the categories that this thread is in, innermost last."""
    if not hasattr(_local, "stack"):
        _local.stack = []
    return _local.stack  # type: ignore[no-any-return]


class _Labeller(TorchDispatchMode):
    """Labels what is born in a category outside of measured regions."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if any(map(is_traceable_wrapper_subclass_type, types)):
            return NotImplemented  # its own operations come by, on the tensors inside
        known = {id(storage(d)) for t in tensors((args, kwargs)) for d in dense(t)}
        out = func(*args, **(kwargs or {}))
        for tensor in tensors(out):
            for each in dense(tensor):
                if id(storage(each)) not in known and stack():
                    given.set(storage(each), stack()[-1])
        return out
