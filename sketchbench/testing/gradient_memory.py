"""Laws of what a gradient sketch keeps in memory: what it declares, and no copy of the vector."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sketchbench import GradientSketch
from sketchbench.measure.storages import WeakStorages, dense, storage, tensors, unique_bytes
from sketchbench.testing.gradient_subject import built, normal

SIZES = (1, 100, 4096, 5000)
STREAMED = 2**19  # entries: a few blocks of 2¹⁶
OUT_SIZES = (2**8, 2**12)


class Peak(TorchDispatchMode):
    """Counts the bytes of storages that are born within it, and the most that lived at once.

    What `known` holds was there before. Memory that torch doesn't allocate isn't seen.
    """

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._alive = 0
        self._sizes: WeakStorages[int] = WeakStorages(self._died)
        for tensor in known:
            self._sizes.set(storage(tensor), 0)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in (d for t in tensors(out) for d in dense(t)):
            memory = storage(tensor)
            if self._sizes.get(memory) is None:
                self._sizes.set(memory, memory.nbytes())
                self._alive += memory.nbytes()
                self.peak = max(self.peak, self._alive)
        return out

    def _died(self, size: int) -> None:
        self._alive -= size


def holds_the_bytes_that_it_declares(subject: GradientSketch) -> None:
    """`state_bytes(size)` is the bytes of all tensors that the built sketch holds.

    Each storage once and whole, as built and after products: what it keeps between products for
    their sake is held too. A sketch that isn't built for a size isn't asked for it.
    """
    silent = True
    for size in SIZES:
        declared = subject.state_bytes(size)
        if declared is None:
            continue
        silent = False
        s = built(subject, size)
        for when in ("as it is built", "after two products"):
            held = held_bytes(s)
            assert held == declared, (
                f"expected state_bytes({size}) to be the {held} bytes that the sketch holds "
                f"{when}; it declares {declared}"
            )
            s.adjoint(s.apply(normal(2, size, seed=1)))
    if silent:
        pytest.skip(f"{subject.name} declares no state_bytes(size)")


def streams_without_a_copy(subject: GradientSketch) -> None:
    """A sketch that accumulates needs less than one copy of the vector beside it, whatever D is.

    At N = 2¹⁹: the bytes that live at once beyond what it holds, the vector and the
    product differ by less than a tenth between D = 2⁸ and 2¹².
    """
    if not hasattr(built(subject, 64), "accumulate"):
        pytest.skip(f"what {subject.name} builds has no accumulate(product, x, start)")
    if "out_size" not in type(subject).model_fields:
        pytest.skip(f"{subject.name} has no field out_size")
    x = normal(STREAMED, seed=1)
    peaks = []
    for out_size in OUT_SIZES:
        s: Any = built(subject.model_copy(update={"out_size": out_size}), STREAMED)
        product = torch.zeros(out_size)
        with Peak([x, product, *held(s)]) as peak:
            s.accumulate(product, x, 0)
        few = 8 * product.nbytes  # temporaries of the size of the product, and its fold
        peaks.append(max(0, peak.peak - few))
        assert peaks[-1] < x.nbytes, (
            f"expected less than the {x.nbytes} bytes of the vector beside it, D={out_size}; "
            f"got {peaks[-1]}"
        )
    small, large = peaks
    assert large <= 1.1 * small + x.nbytes / 100, (
        f"expected the memory of a product not to grow with D; got {small} bytes at "
        f"D={OUT_SIZES[0]} and {large} at D={OUT_SIZES[1]}"
    )


LAWS = (holds_the_bytes_that_it_declares, streams_without_a_copy)


def held_bytes(sketch: object) -> int:
    """Return the bytes of all tensors and arrays within an object, each storage once."""
    return unique_bytes(held(sketch)) + sum(int(array.nbytes) for array in _arrays(sketch))


def held(sketch: object) -> list[Tensor]:
    """Return all tensors that can be reached from an object, through attributes and containers."""
    return [value for value in _walk(sketch, set()) if isinstance(value, Tensor)]


def _arrays(sketch: object) -> list[Any]:
    """Return numpy arrays that own their memory, each once."""
    found = [value for value in _walk(sketch, set()) if isinstance(value, np.ndarray)]
    return [array for array in found if array.base is None]


def _walk(value: object, seen: set[int]) -> Iterator[object]:
    """Yield everything reachable from an object but what modules and classes share."""
    if id(value) in seen or isinstance(value, type | str | bytes | int | float | torch.device):
        return
    seen.add(id(value))
    yield value
    if isinstance(value, Tensor | np.ndarray | torch.Generator):
        return
    if isinstance(value, dict):
        parts: list[object] = list(value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        parts = list(value)
    elif callable(value) and hasattr(value, "__closure__"):
        parts = [cell.cell_contents for cell in value.__closure__ or ()]
    else:
        parts = list(getattr(value, "__dict__", {}).values())
        for slot in (s for kind in type(value).__mro__ for s in getattr(kind, "__slots__", ())):
            parts.append(getattr(value, slot, None))
        for bound in ("__self__", "func", "args", "keywords"):
            parts.append(getattr(value, bound, None))
    for part in parts:
        yield from _walk(part, seen)
