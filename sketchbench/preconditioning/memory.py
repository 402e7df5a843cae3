"""What a parameter's state holds, tensor by tensor, and the part of memory each belongs to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from sketchbench.preconditioning.factor import Factor
from sketchbench.preconditioning.grafting import GRAFTS
from sketchbench.preconditioning.options import averages
from sketchbench.preconditioning.shapes import Layout, layout

CPU = torch.device("cpu")
# On the CPU wherever the parameter is, so that reading them waits for none: steps taken, gradients
# that weren't finite, and gradients that `average` is the sum of.
COUNTERS = ("step", "skipped", "summed")
Group = Mapping[str, Any]


def form(p: Tensor, group: Group) -> Layout:
    """Return the form in which a parameter of `group` is preconditioned."""
    return layout(tuple(p.shape), group["merge_dims"], group["block_size"], group["max_dim"])


def working(p: Tensor) -> torch.dtype:
    """Return the precision of a parameter's state: its own, float32 at the least."""
    return torch.promote_types(p.dtype, torch.float32)


def empty(
    p: Tensor, group: Group, factor: Factor, device: torch.device | None = None
) -> dict[str, Tensor]:
    """Return the state of a parameter before its first step, all zeros, by key.

    `device` is the parameter's own if None. Factors are at `tile.axis.name`: of a parameter that
    isn't cut into blocks at `0.axis.name`.
    """
    form_, dtype, device = form(p, group), working(p), device or p.device
    averaged = averages(group) and bool(form_.tiles)
    asked = (True, group["nonfinite"] == "skip", averaged)
    counters = (key for key, wanted in zip(COUNTERS, asked, strict=True) if wanted)
    place = device if device.type == "meta" else CPU
    state = {key: torch.tensor(0, dtype=torch.int64, device=place) for key in counters}
    for number, tile in enumerate(form_.tiles):
        for axis in range(len(tile.sizes)):
            kept = factor.empty(tile.blocks, tile.sizes, axis, device=device, dtype=dtype)
            state |= {f"{number}.{axis}.{name}": value for name, value in kept.items()}
    for name, shape in GRAFTS[group["graft"]].empty(form_.merged).items():
        state[f"graft.{name}"] = torch.zeros(shape, device=device, dtype=dtype)
    if averaged:
        state["average"] = torch.zeros(form_.merged, device=device, dtype=dtype)
    if group["momentum"]:
        state["momentum"] = torch.zeros_like(p, device=device, dtype=dtype, requires_grad=False)
    return state


def axes(state: Mapping[str, Tensor], form_: Layout, factor: Factor) -> Iterator[dict[str, Tensor]]:
    """Yield what is kept of every axis of every tile, by name."""
    for number, tile in enumerate(form_.tiles):
        for axis in range(len(tile.sizes)):
            yield {name: state[f"{number}.{axis}.{name}"] for name in factor.parts}


def part(key: str, factor: Factor) -> str:
    """Return the part of memory that a key of the state belongs to."""
    if key in COUNTERS:
        return "rest"
    if key in ("momentum", "average"):
        return key
    scope, _, name = key.rpartition(".")
    return "graft" if scope == "graft" else factor.parts[name]


def declared(p: Tensor, group: Group, factor: Factor) -> dict[str, int]:
    """Return the bytes of a parameter's state on its own device by part, allocating nothing."""
    found: dict[str, int] = {}
    for key, value in empty(p, group, factor, torch.device("meta")).items():
        if key in COUNTERS and p.device != CPU:
            continue
        where = part(key, factor)
        found[where] = found.get(where, 0) + value.numel() * value.element_size()
    return found


def adopted(
    saved: Mapping[str, Any], p: Tensor, group: Group, factor: Factor, number: int
) -> dict[str, Tensor]:
    """Return a saved state as a parameter's own: copies, on its device, in its precision.

    Raises `ValueError` where keys or shapes aren't those that the parameter, its group and the
    factor ask for; `number` tells which parameter it is.
    """
    asked = empty(p, group, factor, torch.device("meta"))
    where = f"load_state_dict: parameter {number} {tuple(p.shape)}"
    odd = sorted(set(asked) ^ set(saved))
    if odd:
        known = "an unknown" if odd[0] in saved else "no"
        raise ValueError(f"{where}: the saved state has {known} '{odd[0]}'; build it as it was")
    taken = {}
    for key, like in asked.items():
        value = saved[key]
        if value.shape != like.shape:
            raise ValueError(
                f"{where}: '{key}' was saved as {tuple(value.shape)}, and is {tuple(like.shape)} "
                "here; build it with the rank and the blocks that it had"
            )
        place = CPU if key in COUNTERS else p.device
        taken[key] = torch.empty_like(like, device=place).copy_(value)
    return taken
