"""Selection: `--only`, and the order in which cells are executed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from sketchbench.recipe import suggest
from sketchbench.suite.cells import Cell, Experiment
from sketchbench.suite.mistakes import Mistakes, Place


def matching(
    cells: Sequence[Cell], globs: Sequence[tuple[str, Place]], mistakes: Mistakes
) -> Sequence[Cell]:
    """Return the cells that any of the globs names; all where there are none.

    A glob is matched with each label, with all of them joined, with the experiment's name, and
    with `experiment/label`.
    """
    if not globs:
        return cells
    names: dict[tuple[str, ...], list[Cell]] = {}
    for cell in cells:
        names.setdefault((cell.experiment, cell.label, *cell.axes.values()), []).append(cell)
    chosen: set[tuple[str, ...]] = set()
    for glob, place in globs:
        found = {known for known in names if any(_matches(name, glob) for name in _names(known))}
        chosen |= found
        if not found:
            known = {label for key in names for label in (key[0], *key[2:])}
            mistakes.add(place, f"no label matches '{glob}'; {suggest(glob, known)}")
    return [c for c in cells if (c.experiment, c.label, *c.axes.values()) in chosen]


def ordered(
    experiments: Iterable[Experiment], cells: Iterable[Cell], seeds: Sequence[int]
) -> tuple[Cell, ...]:
    """Return cells in execution order.

    Seed by seed, experiment by experiment; the methods of one comparison group stand next to each
    other, in reversed order every second seed, so that a drift of the machine favours none.
    """
    method_axes = {experiment.name: experiment.method_axis for experiment in experiments}
    groups: dict[int, dict[tuple[object, ...], list[Cell]]] = {seed: {} for seed in seeds}
    for cell in cells:
        method = method_axes[cell.experiment]
        others = frozenset(item for item in cell.axes.items() if item[0] != method)
        groups[cell.seed].setdefault((cell.experiment, others), []).append(cell)
    order: list[Cell] = []
    for turn, seed in enumerate(seeds):
        for group in groups[seed].values():
            order += reversed(group) if turn % 2 else group
    return tuple(order)


def _names(known: tuple[str, ...]) -> Iterable[str]:
    experiment, *labels = known
    yield experiment
    for label in labels:
        yield label
        yield f"{experiment}/{label}"


def _matches(name: str, glob: str) -> bool:
    return name == glob or fnmatchcase(name, glob)
