"""The ranges of a group's options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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


_TORCHS = ("params", "param_names", "initial_lr")  # keys that torch and its schedulers add
_FORMING = ("graft", "merge_dims", "block_size", "max_dim")  # state of another one is of no use


def check(group: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise `ValueError` for an option that is missing or out of its range."""
    for name in sorted(set(known) - set(group)):
        raise ValueError(f"optimizer: a group has no '{name}'; its options come with its state")
    for name, (holds, range_) in _RULES.items():
        if not holds(group[name]):
            raise ValueError(f"optimizer: '{name}' must be {range_}; got {group[name]!r}")
    if group["nesterov"] and not group["momentum"]:
        raise ValueError("optimizer: nesterov needs a momentum above 0")


def recognise(group: Mapping[str, Any], known: Iterable[str], factor: object) -> None:
    """Raise `ValueError` for an option of a new group that nothing would read."""
    for name in sorted(set(group) - set(known) - set(_TORCHS)):
        if hasattr(factor, name):
            raise ValueError(f"optimizer: '{name}' is one for all factors; no group has its own")
        options = ", ".join(sorted(known))
        raise ValueError(f"optimizer: a group's '{name}' is unknown; its options are {options}")


def averages(group: Mapping[str, Any]) -> bool:
    """Return whether gradients are summed up between two updates of the factors."""
    return bool(group["skipped"] == "averaged" and group["update_every"] > 1)


def forming(group: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of the options says which tensors a state has, by the option's name."""
    return {
        **{name: group[name] for name in _FORMING},
        "momentum": group["momentum"] > 0,
        "skipped": averages(group),
        "nonfinite": group["nonfinite"] == "skip",
    }


def unmet(had: Mapping[str, Any], group: Mapping[str, Any]) -> str | None:
    """Return the options that ask for what a state formed by `had` lacks; None if none do."""
    for name, now in forming(group).items():
        if now != had[name] and (now or name in _FORMING):
            names = (name, "update_every") if name == "skipped" else (name,)
            return " and ".join(f"{name}={group[name]!r}" for name in names)
    return None
