"""Arranging: each method at its best value of a tuned axis, and rows in order of a metric."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sketchbench.report.groups import Cell, Column, Group


def arranged(outline: Mapping[str, Any], groups: Iterable[Group]) -> list[Group]:
    """Return the groups as their experiments' `tune` and `sort` ask for."""
    experiments = {each["name"]: each for each in outline.get("experiments", ())}
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.experiment, []).append(group)
    answer: list[Group] = []
    for name, mine in found.items():
        asked = experiments.get(name, {})
        if asked.get("tune"):
            mine = tuned(mine, **asked["tune"])
        if asked.get("sort"):
            mine = [ordered(group, asked["sort"]) for group in mine]
        answer += mine
    return answer


def tuned(groups: Sequence[Group], axis: str, by: str) -> list[Group]:
    """Join groups that differ in `axis` alone: each method has its cells of its best value there.

    Best is the mean of `by` over seeds, among the values for which most cells ended well. Groups
    that lack the axis, or stand alone at one value of it, stay as they are.
    """
    families: dict[tuple[bool, tuple[tuple[str, str], ...]], list[Group]] = {}
    for group in groups:
        rest = tuple((a, label) for a, label in group.labels.items() if a != axis)
        families.setdefault((axis in group.labels, rest), []).append(group)
    answer: list[Group] = []
    for (tunable, _), family in families.items():
        column = _column(family[0], by)
        if tunable and column and len(family) > 1:
            answer.append(_joined(family, axis, column))
        else:
            answer += family
    return answer


def ordered(group: Group, label: str) -> Group:
    """Return the group with its methods by the mean of a metric, lowest first, unmeasured last."""
    column = _column(group, label)
    if column is None:
        return group
    means = _means(group, column)
    methods = sorted(group.methods, key=lambda method: _rank(means[method]))
    return replace(group, methods={method: group.methods[method] for method in methods})


def _joined(family: Sequence[Group], axis: str, column: Column) -> Group:
    means = {group.labels[axis]: _means(group, column) for group in family}
    methods: dict[str, Mapping[int, Cell]] = {}
    chosen: dict[str, str] = {}
    passed: list[Cell] = []
    for method in dict.fromkeys(method for group in family for method in group.methods):
        having = [group for group in family if method in group.methods]
        best = min(having, key=lambda group: _quality(group, means, method, axis, column))
        methods[method] = best.methods[method]
        if math.isfinite(means[best.labels[axis]][method]):
            chosen[method] = best.labels[axis]
        passed += [c for g in having if g is not best for c in g.methods[method].values()]
    values = ", ".join(dict.fromkeys(group.labels[axis] for group in family))
    labels = {**family[0].labels, axis: f"best by {column.label} of {values}"}
    return replace(family[0], labels=labels, methods=methods, chosen=chosen, passed=passed)


def _quality(
    group: Group, means: Mapping[str, Mapping[str, float]], method: str, axis: str, column: Column
) -> tuple[int, float]:
    """Return what is least for the best value: cells lost, then the mean, the right way up."""
    lost = sum(cell.status != "ok" for cell in group.methods[method].values())
    value = means[group.labels[axis]][method]
    return lost, _rank(-value if column.direction == "higher" else value)


def _means(group: Group, column: Column) -> dict[str, float]:
    readings = group.readings(column)
    return {method: column.estimate(by_seed).value for method, by_seed in readings.items()}


def _rank(value: float) -> float:
    return value if math.isfinite(value) else math.inf


def _column(group: Group, label: str) -> Column | None:
    return next((column for column in group.columns if column.label == label), None)
