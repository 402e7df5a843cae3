"""Overrides: presets and `--set`, held against the experiments that they should change."""

from __future__ import annotations

from collections.abc import Sequence

from sketchbench.recipe import Lookup, suggest
from sketchbench.suite.check import Workloads
from sketchbench.suite.form import Override
from sketchbench.suite.mistakes import Mistakes
from sketchbench.suite.paths import Found, follow
from sketchbench.suite.plan import Plan


def refuse_axes(
    plans: Sequence[Plan], overrides: Sequence[Override], mistakes: Mistakes
) -> list[Override]:
    """Note the overrides of what a matrix varies, and return the others."""
    allowed = list(overrides)
    for override in overrides:
        for each in plans:
            for axis in (axis for axes in each.matrix.blocks for axis in axes):
                if axis.path[: len(override.path)] != override.path:
                    continue
                mistakes.add(
                    override.entry.key,
                    f"{override.name}: the matrix of '{each.form.name}' varies {axis.name};"
                    " choose among its labels with --only",
                )
                allowed = [other for other in allowed if other is not override]
    return allowed


def refuse_missing(
    plans: Sequence[Plan], overrides: Sequence[Override], lookup: Lookup, mistakes: Mistakes
) -> None:
    """Note overrides that no workload has a place for, with the nearest that one has."""
    for override in overrides:
        best: list[Found] = [Found(0, lost=True)]
        for each in plans:
            for point in each.points((), lookup, mistakes, set()):
                found = follow(point.workload, override.path, lookup)
                if found.depth > best[0].depth:
                    best = [found]
                elif found.depth == best[0].depth:
                    best.append(found)
        owners = {found.owner: None for found in best if found.owner}
        if not owners:
            if not any(found.lost for found in best):
                stop = ".".join(("workload", *override.path[: best[0].depth]))
                mistakes.add(override.entry.key, f"{override.name}: {stop} has no parameters")
            continue
        name = override.path[best[0].depth]
        what = ", ".join(f"{owner.kind} '{owner.name}'" for owner in owners)
        known = {field for owner in owners for field in owner.model_fields}
        mistakes.add(
            override.entry.key,
            f"{override.name}: {what} has no parameter '{name}'; {suggest(name, known)}",
        )


def try_preset(
    plans: Sequence[Plan], overrides: Sequence[Override], lookup: Lookup, mistakes: Mistakes
) -> None:
    """Check a preset that isn't chosen: each of its paths, on the first point that has it."""
    missing = []
    overrides = refuse_axes(plans, overrides, mistakes)
    for position, override in enumerate(overrides):
        hits: set[Override] = set()
        for point in (
            point
            for each in plans
            for point in each.points(overrides[: position + 1], lookup, mistakes, hits)
        ):
            if override in hits:
                Workloads(lookup, mistakes).check(point.workload)
                break
        else:
            missing.append(override)
    refuse_missing(plans, missing, lookup, mistakes)
