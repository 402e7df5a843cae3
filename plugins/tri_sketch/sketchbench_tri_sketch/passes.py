"""Forward passes: which of them repeat another, and the types that they are sketched in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

_graph_task: Callable[[], int] = torch._C._current_graph_task_id
_NO_TASK = -1


def recomputing() -> bool:
    """Say whether this is a recomputation: a forward pass within a backward pass."""
    return _graph_task() != _NO_TASK


def as_typed(x: Tensor) -> AbstractContextManager[Any]:
    """Compute in the types at hand, under autocast too."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
