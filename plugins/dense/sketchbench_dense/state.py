"""What torch's optimizers keep between steps, in bytes on the parameters' device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import nn

Built = TypeVar("Built", bound=torch.optim.Optimizer)


def declaring(optimizer: Built, parts: Mapping[str, str]) -> Built:
    """Return the optimizer with `state_parts`, from keys of its state to parts of its memory."""
    optimizer.state_parts = dict(parts)  # type: ignore[attr-defined]
    return optimizer


def trained(params: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Return the parameters that get gradients: torch keeps state, made lazily, of no others."""
    return [p for p in params if p.requires_grad]


def copies(params: Iterable[nn.Parameter]) -> int:
    """Return the bytes of one tensor like each parameter."""
    return sum(p.numel() * p.element_size() for p in params)


def counters(params: Iterable[nn.Parameter]) -> int:
    """Return the bytes of a step counter each: of torch's scalar type, and always on the CPU."""
    size = 8 if torch.get_default_dtype() == torch.float64 else 4
    return size * sum(p.device.type == "cpu" for p in params)
