"""The checks by title; each runs in a process of its own, in the environment that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

MIB = 2**20

Check = Callable[[], str]
CHECKS: dict[str, tuple[Check, Mapping[str, str]]] = {}


def check(**environment: str) -> Callable[[Check], Check]:
    """Register a check: it returns what it saw as one line, or raises; its name is its title."""

    def register(function: Check) -> Check:
        CHECKS[function.__name__.replace("_", " ")] = (function, environment)
        return function

    return register


def expect(holds: bool, otherwise: str) -> None:
    """Fail the check with a line that says what was seen instead."""
    if not holds:
        raise AssertionError(otherwise)


def mib(size: float) -> str:
    return f"{size / MIB:,.1f} MiB"
