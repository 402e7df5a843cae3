"""The law of what an optimizer keeps between steps: what it declares is what is there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import pytest
import torch
from torch import Generator, nn

from sketchbench import Optimizer
from sketchbench.measure import state_bytes

SHAPES = ((6, 4), (4, 6), (4,), (2, 3, 2, 2), (1,))  # matrices, a vector, a kernel, a number
CPU = torch.device("cpu")


def declares_its_state(subject: Optimizer) -> None:
    """`state_bytes(params)` gives the bytes of the state after a full period, part by part.

    Of parameters alone and together, frozen ones among them, and in bfloat16 where the optimizer
    takes that. Bytes are those on the parameters' device; a part of 0 bytes may be left out. Keys
    of `state_parts` are keys of the state.
    """
    silent = True
    for what, params, required in _cases():
        optimizer = _stepped(subject, params, required)
        if optimizer is None:
            continue
        if what == "all shapes":
            _keys_exist(optimizer)
        promised = subject.state_bytes(params)
        if promised is None:
            continue
        silent = False
        declared, measured = _positive(promised), _positive(state_bytes(optimizer, CPU))
        assert declared == measured, (
            f"expected state_bytes(params) to declare what the state of {what} takes after "
            f"{subject.full_period()} step(s), {_listed(measured)}; it declares {_listed(declared)}"
        )
    if silent:
        pytest.skip(
            f"{subject.name} declares no state: let state_bytes(params) return bytes by part, "
            "and give the optimizer that build returns the attribute state_parts, "
            "{key of its state: part}"
        )


def _cases() -> Iterator[tuple[str, list[nn.Parameter], bool]]:
    """Yield parameters by what they are, and whether every optimizer must take them."""
    yield "all shapes", [_parameter(shape) for shape in SHAPES], True
    for shape in SHAPES:
        yield f"one parameter {shape}", [_parameter(shape)], True
    frozen = _parameter((5, 3))
    frozen.requires_grad_(False)
    yield "a parameter (6, 4) beside a frozen one (5, 3)", [_parameter((6, 4)), frozen], True
    for shape in ((6, 4), (4,)):
        half = nn.Parameter(_parameter(shape).detach().to(torch.bfloat16))
        yield f"one parameter {shape} in bfloat16", [half], False


def _stepped(
    subject: Optimizer, params: Sequence[nn.Parameter], required: bool
) -> torch.optim.Optimizer | None:
    """Return the optimizer after a full period, or None where it needn't take the parameters."""
    rng = Generator().manual_seed(1)
    try:
        optimizer = subject.build(params)
        for _ in range(subject.full_period()):
            for p in params:
                p.grad = torch.randn(p.shape, generator=rng).to(p) if p.requires_grad else None
            optimizer.step()
    except (RuntimeError, TypeError, ValueError):
        if required:
            raise
        return None
    return optimizer


def _keys_exist(optimizer: torch.optim.Optimizer) -> None:
    parts: Mapping[str, str] = getattr(optimizer, "state_parts", {})
    known = {key for state in optimizer.state.values() for key in state}
    unknown = sorted(set(parts) - known)
    assert not unknown, (
        f"expected the keys of state_parts to be keys of the state "
        f"({', '.join(sorted(map(str, known))) or 'it has none'}); "
        f"{', '.join(map(repr, unknown))} is none of them"
    )
    for part in parts.values():
        assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", part), (
            f"expected parts in lower case with underscores; got '{part}'"
        )


def _parameter(shape: tuple[int, ...]) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=Generator().manual_seed(0)))


def _positive(parts: Mapping[str, int]) -> dict[str, int]:
    return {part: parts[part] for part in sorted(parts) if parts[part]}


def _listed(parts: Mapping[str, int]) -> str:
    return ", ".join(f"{part}: {size} bytes" for part, size in parts.items()) or "nothing"
