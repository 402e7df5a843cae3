"""Ranks: up to which an optimizer keeps no more of a model's parameters than Adam does."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from sketchbench.kinds import Model, Optimizer, Task
from sketchbench.report.plans import one_line

if TYPE_CHECKING:
    from sketchbench.recipe import Recipe
    from sketchbench.suite import Cell

Shapes = list[tuple[tuple[int, ...], int]]  # of parameters, largest first, and how many have each

MOST = 3  # shapes that are told
LEGEND = (
    "break-even rank: the largest at which what is kept of a parameter, but for momentum and "
    "graft, takes no more bytes than Adam's second moment"
)


def break_evens(cells: Iterable[Cell]) -> dict[str, list[str]]:
    """Return a line for each optimizer, rank and model of an experiment, where a recipe states it.

    Models are built on fake tensors, and only for optimizers that state a break-even.
    """
    built: dict[str, Shapes] = {}
    lines: dict[str, str] = {}
    found: dict[str, dict[str, None]] = {}
    for cell in cells:
        for optimizer, model, task in _asked(cell):
            key = _key(optimizer, model, task)
            if key not in lines:
                lines[key] = _line(optimizer, model, task, built)
            if lines[key]:
                found.setdefault(cell.experiment, {})[lines[key]] = None
    return {experiment: list(each) for experiment, each in found.items()}


def _asked(cell: Cell) -> Iterator[tuple[Optimizer, Model, Task]]:
    """Yield the optimizers that state a break-even, with the model and task of their cell."""
    parts = list(cell.workload.parts())
    model = next((part for part in parts if isinstance(part, Model)), None)
    task = next((part for part in parts if isinstance(part, Task)), None)
    for part in parts:
        states = isinstance(part, Optimizer) and type(part).break_even is not Optimizer.break_even
        if states and model is not None and task is not None:
            yield part, model, task  # type: ignore[misc]


def _line(optimizer: Optimizer, model: Model, task: Task, built: dict[str, Shapes]) -> str:
    rank = getattr(optimizer, "rank", None)
    head = f"break-even rank of {optimizer.name}" + (f" (asked for {rank})" if rank else "")
    key = _key(model, task)
    try:
        if key not in built:
            built[key] = _shapes(model, task)
        told = ", ".join(islice(_told(optimizer, built[key]), MOST))
    except Exception as error:  # a plugin's mistake costs its break-even, not the plan
        told = one_line(f"unknown: {type(error).__name__}: {error}")
    return f"{head}: {told}" if told else ""


def _told(optimizer: Optimizer, shapes: Shapes) -> Iterator[str]:
    """Yield the break-even rank of each shape that has one, in words."""
    rank = getattr(optimizer, "rank", None)
    for shape, count in shapes:
        most = optimizer.break_even(shape)
        if most is None:
            continue
        notes = [f"{count} of them"] if count > 1 else []
        notes += ["exceeded"] if isinstance(rank, int) and rank > most else []
        noted = f" ({', '.join(notes)})" if notes else ""
        yield f"{most} for {' × '.join(map(str, shape))}{noted}"


def _shapes(model: Model, task: Task) -> Shapes:
    """Return the shapes of a model's parameters of two axes or more, largest first."""
    from sketchbench.fakes import fake_tensors

    given = task.shapes
    with fake_tensors():
        shapes = [tuple(p.shape) for p in model.build(given).parameters() if p.ndim > 1]
    return sorted(Counter(shapes).items(), key=lambda item: -math.prod(item[0]))


def _key(*recipes: Recipe) -> str:
    return json.dumps([recipe.config() for recipe in recipes], sort_keys=True)
