"""The suite: a YAML file in, cells in execution order out. Nothing here runs anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sketchbench.kinds import Workload
from sketchbench.recipe import Lookup
from sketchbench.suite.cells import Cell, Experiment, canonical
from sketchbench.suite.check import Workloads
from sketchbench.suite.compose import compose
from sketchbench.suite.form import Override
from sketchbench.suite.mistakes import Mistakes, Place
from sketchbench.suite.overrides import refuse_axes, refuse_missing, try_preset
from sketchbench.suite.plan import Plan, plan
from sketchbench.suite.reading import Reading
from sketchbench.suite.select import Names, Selection, matching, preset_globs, select

BYTES = 16 * 2**20  # of a suite file
CELLS = 1_000_000


@dataclass(frozen=True)
class Suite:
    """A suite as it was asked for: its experiments, and its cells in execution order.

    `selection` tells one variant from another (preset, `--set`); `whole` is false where `--only`
    or `--seeds` chose a part of the variant.
    """

    name: str
    title: str
    path: Path
    selection: str
    whole: bool
    experiments: tuple[Experiment, ...]
    cells: tuple[Cell, ...]
    timeout: float | None = None
    claims: tuple[Mapping[str, Any], ...] = ()

    @classmethod
    def read(
        cls,
        path: Path,
        lookup: Lookup,
        *,
        preset: str | None = None,
        sets: Sequence[str] = (),
        only: Sequence[str] = (),
        seeds: int | None = None,
        device: str = "cpu",
    ) -> Self:
        """Read and expand a suite file; raise `SuiteError` with every mistake there is."""
        mistakes = Mistakes()
        node = compose(_read(path, mistakes), str(path), mistakes)
        form = Reading(mistakes).suite(node, str(path))
        selection = select(form, mistakes, preset, sets, only, seeds)
        plans = [plan(each, lookup, mistakes) for each in form.experiments]
        _bound(plans, selection, mistakes)
        placed = _place(plans, selection, lookup, mistakes)
        unmatched = mistakes if all(each.sound for each in plans) else Mistakes()
        for other in (other for name, other in form.presets.items() if name != preset):
            try_preset(plans, other.overrides, lookup, mistakes)
            matching((each.names for each in placed), preset_globs(other.only), unmatched)
        for globs in selection.only:
            chosen = matching((each.names for each in placed), globs, unmatched)
            placed = [each for each in placed if each.names in chosen]
        mistakes.settle()
        return cls(
            name=form.name,
            title=form.title,
            path=path,
            selection=selection.text,
            whole=selection.whole,
            experiments=tuple(each.experiment for each in plans),
            cells=tuple(_cells(form.name, placed, selection.seeds, device)),
            timeout=form.timeout,
            claims=form.claims,
        )

    def outline(self) -> dict[str, Any]:
        """Return in JSON what a report needs of the suite, without its file and its plugins."""
        return {
            "title": self.title,
            "experiments": [experiment.outline() for experiment in self.experiments],
        }


@dataclass(frozen=True)
class _Placed:
    """A validated point of an experiment."""

    experiment: Experiment
    axes: Mapping[str, str]
    workload: Workload | None

    @property
    def names(self) -> Names:
        return (self.experiment.name, *self.axes.values())

    @property
    def group(self) -> tuple[object, ...]:
        """What the methods that are compared with each other have in common."""
        method = self.experiment.method_axis
        return self.experiment.name, frozenset(x for x in self.axes.items() if x[0] != method)


def _read(path: Path, mistakes: Mistakes) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        mistakes.stop(Place(str(path)), f"can't be read: {reason or error}")
    if len(content) > BYTES:
        mistakes.stop(Place(str(path)), f"larger than {BYTES // 2**20} MiB; is it a suite?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line_start = before.rfind(b"\n") + 1
        column = len(before[line_start:].decode("utf-8", "replace")) + 1
        place = Place(str(path), before.count(b"\n") + 1, column)
        mistakes.stop(place, f"not UTF-8 text: byte 0x{content[error.start]:02x}")


def _bound(plans: Sequence[Plan], selection: Selection, mistakes: Mistakes) -> None:
    points = sum(each.matrix.size for each in plans)
    if points * len(selection.seeds) > CELLS:
        largest = max(plans, key=lambda each: each.matrix.size)
        mistakes.stop(
            largest.place,
            f"{points:,} points with {len(selection.seeds):,} seeds make"
            f" {points * len(selection.seeds):,} cells; at most {CELLS:,} are allowed",
        )


def _place(
    plans: Sequence[Plan],
    selection: Selection,
    lookup: Lookup,
    mistakes: Mistakes,
) -> list[_Placed]:
    """Override and validate every point."""
    overrides = refuse_axes(plans, selection.overrides, mistakes)
    hits: set[Override] = set()
    workloads = Workloads(lookup, mistakes)
    placed = []
    for each in plans:
        for point in each.points(overrides, lookup, mistakes, hits):
            workload = workloads.check(point.workload)
            placed.append(_Placed(each.experiment, point.axes, workload))
    missing = [override for override in overrides if override not in hits]
    refuse_missing(plans, missing, lookup, mistakes)
    return placed


def _cells(
    suite: str, placed: Sequence[_Placed], seeds: Sequence[int], device: str
) -> Iterator[Cell]:
    """Yield cells in execution order.

    Seed by seed, experiment by experiment; the methods of one comparison group stand next to each
    other, in reversed order every second seed, so that a drift of the machine favours none.
    """
    groups: dict[tuple[object, ...], list[tuple[_Placed, str]]] = {}
    for each in placed:
        assert each.workload is not None
        groups.setdefault(each.group, []).append((each, canonical(each.workload.config())))
    for turn, seed in enumerate(seeds):
        for group in groups.values():
            for each, workload_json in reversed(group) if turn % 2 else group:
                assert each.workload is not None
                yield Cell(
                    suite=suite,
                    experiment=each.experiment.name,
                    axes=each.axes,
                    workload=each.workload,
                    metrics=each.experiment.metrics,
                    seed=seed,
                    device=device,
                    _workload_json=workload_json,
                )
