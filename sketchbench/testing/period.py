"""What a step runs, whatever the values, and how often that repeats."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

from sketchbench.measure.storages import tensors
from sketchbench.recipe import Recipe

STEPS = "SKETCHBENCH_LAW_STEPS"
WARM_UP = 20  # steps before the first that counts: state made lazily, rules that begin later

Operation = tuple[str, tuple[Any, ...], tuple[Any, ...]]  # name, shapes that go in, that come out
Work = tuple[Operation, ...]


class Recorder(TorchDispatchMode):
    """Lists the operations that torch dispatches, with the shapes and types that go in and out."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        going_in = _shapes((args, kwargs))
        out = func(*args, **(kwargs or {}))
        self.operations.append((str(func), going_in, _shapes(out)))
        return out


def repeats(subject: Recipe, step: Callable[[], object], watched: int) -> None:
    """Assert that the work of `step` repeats with the full period that `subject` declares.

    At least `watched` steps are compared, and three periods: of work that a recipe does more
    seldom than that, nothing can be told. Where the environment has SKETCHBENCH_LAW_STEPS they are
    at most so many, but for the three periods: for test runs that must be short. A shorter period
    is as wrong as a longer one, since measurements take whole periods.
    """
    period = subject.full_period()
    warm_up = max(period, WARM_UP)
    for _ in range(warm_up):
        step()
    watched = min(watched, int(os.environ.get(STEPS, watched)))
    works = [_work(step) for _ in range(max(3 * period, watched))]
    found = _least_period(works)
    if found == period:
        return
    if found is not None and period % found == 0:
        raise AssertionError(
            f"expected full_period() to be the {found} step(s) after which the work repeats; "
            f"it declares {period}, and measurements would take longer than they need"
        )
    raise AssertionError(
        f"expected the work to repeat after the {period} step(s) that full_period() declares; "
        f"{_difference(works, period, warm_up + 1)}. "
        + (
            f"It repeats after {found}: let 'period' say so"
            if found is not None
            else f"No other period shows in {len(works)} steps"
        )
    )


def _work(step: Callable[[], object]) -> Work:
    with Recorder() as recorder:
        step()
    return tuple(recorder.operations)


def _least_period(works: Sequence[Work]) -> int | None:
    numbers: dict[Work, int] = {}
    short = [numbers.setdefault(work, len(numbers)) for work in works]
    for period in range(1, len(short) // 2 + 1):
        if short[period:] == short[:-period]:
            return period
    return None


def _difference(works: Sequence[Work], period: int, first: int) -> str:
    """Phrase where a step does what the one a period before it doesn't; `first` is its number."""
    early = next(i for i, work in enumerate(works) if works[i + period] != work)
    left, right = works[early], works[early + period]
    shared = min(len(left), len(right))
    at = next((i for i in range(shared) if left[i] != right[i]), shared)
    return (
        f"step {first + early + period} runs {_named(right, at)} "
        f"where step {first + early} runs {_named(left, at)}"
    )


def _named(work: Work, at: int) -> str:
    if at == len(work):
        return "nothing more"
    name, going_in, _ = work[at]
    return f"{name} of {', '.join(str(shape) for shape, _ in going_in) or 'no tensor'}"


def _shapes(value: Any) -> tuple[Any, ...]:
    return tuple((tuple(tensor.shape), tensor.dtype) for tensor in tensors(value))
