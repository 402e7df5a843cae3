"""The ranges of a group's options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sketchbench.preconditioning.grafting import GRAFTS

_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "lr": (lambda v: float(v) >= 0, "at least 0"),
    "update_every": (lambda v: isinstance(v, int) and v >= 1, "a whole number from 1"),
    "skipped": (lambda v: v in ("exact", "averaged", "observed"), "exact, averaged or observed"),
    "start_step": (lambda v: isinstance(v, int) and v >= 0, "a whole number from 0"),
    "graft": (lambda v: v in GRAFTS, "one of " + ", ".join(GRAFTS)),
    "graft_beta2": (lambda v: 0 <= v < 1, "from 0 to below 1"),
    "momentum": (lambda v: 0 <= v < 1, "from 0 to below 1"),
    "weight_decay": (lambda v: v >= 0, "at least 0"),
    "merge_dims": (lambda v: isinstance(v, int) and v >= 0, "a whole number from 0"),
    "block_size": (lambda v: v is None or (isinstance(v, int) and v >= 1), "None, or from 1"),
    "max_dim": (lambda v: v is None or (isinstance(v, int) and v >= 1), "None, or from 1"),
    "nonfinite": (lambda v: v in ("raise", "skip"), "raise or skip"),
}


def check(group: Mapping[str, Any]) -> None:
    """Raise `ValueError` for an option out of its range."""
    for name, (holds, range_) in _RULES.items():
        if not holds(group[name]):
            raise ValueError(f"optimizer: '{name}' must be {range_}; got {group[name]!r}")
    if group["nesterov"] and not group["momentum"]:
        raise ValueError("optimizer: nesterov needs a momentum above 0")
