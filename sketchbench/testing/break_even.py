"""The law of an optimizer's break-even rank: up to it, and no further, it keeps less than Adam."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sketchbench import Optimizer

SHAPES = ((48, 32), (20, 90), (16, 8, 3, 3))  # upright, lying, a convolution's kernel
BESIDE = ("momentum", "graft", "rest")  # parts that Adam's second moment isn't compared with


def breaks_even_at_the_rank_it_says(subject: Optimizer) -> None:
    """At rank `break_even(shape)` it declares no more bytes than Adam's moment, one above it more.

    Adam's second moment is a copy of the parameter; compared with it are the bytes of all parts
    but `momentum`, `graft` and `rest`, as `state_bytes` declares them.
    """
    silent = True
    for shape in SHAPES:
        rank = subject.break_even(shape)
        if rank is None:
            continue
        silent = False
        assert isinstance(rank, int) and rank >= 0, (  # noqa: PT018  # one sentence of the law
            f"expected break_even({shape}) to be a rank, at least 0, or None; got {rank!r}"
        )
        param = nn.Parameter(torch.zeros(shape))
        room = param.numel() * param.element_size()
        if rank:
            kept = _kept(subject, rank, param)
            assert kept <= room, (
                f"expected no more than the {room} bytes of Adam's second moment at rank {rank}, "
                f"break_even({shape}); it declares {kept}"
            )
        above = _kept(subject, rank + 1, param)
        assert above > room, (
            f"expected more than the {room} bytes of Adam's second moment at rank {rank + 1}, one "
            f"above break_even({shape}); it declares {above}"
        )
    if silent:
        pytest.skip(f"{subject.name} states no break-even rank: break_even(shape) is None")


def _kept(subject: Optimizer, rank: int, param: nn.Parameter) -> int:
    """Return the bytes that it declares, at another rank, in place of Adam's second moment."""
    declared = subject.model_copy(update={"rank": rank}).state_bytes([param])
    assert declared is not None, (
        f"expected {subject.name}, which states a break-even rank, to declare its state_bytes"
    )
    return sum(count for part, count in declared.items() if part not in BESIDE)
