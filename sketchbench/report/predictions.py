"""Predictions as text: what each method of a suite is going to need, in bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sketchbench.measure import CATEGORIES
from sketchbench.report import numerals
from sketchbench.report.paper import Plain, Strip

Answers = Mapping[str, Mapping[str, Any]]  # by method: status, reason, found


def show(paper: Plain, experiment: str, answers: Answers, device_bytes: int | None) -> list[str]:
    """Print a table for each region of an experiment; return the methods that don't fit."""
    regions = list(dict.fromkeys(r for answer in answers.values() for r in answer["found"]))
    for region in regions:
        paper.line()
        paper.line(experiment + ("" if region == "step" else f", {region}"), "bold")
        found = {m: a["found"][region] for m, a in answers.items() if region in a["found"]}
        paper.grid([Strip("method", list(found))], _columns(list(found.values())), set())
    unknown = {m: answer for m, answer in answers.items() if answer["status"] != "ok"}
    if not regions:
        paper.line()
        paper.line(experiment, "bold")
    paper.notes(f"not predictable: {m}: {_why(answer)}" for m, answer in unknown.items())
    return [m for m, a in answers.items() if device_bytes is not None and needs(a) > device_bytes]


def needs(answer: Mapping[str, Any]) -> int:
    """Return the bytes that the neediest region of a method keeps alive."""
    return max((found["peak"] for found in answer["found"].values()), default=0)


def brief(answer: Mapping[str, Any]) -> str:
    """Phrase a prediction in a few words."""
    if answer["status"] != "ok":
        return f"not predictable: {_why(answer)}"
    return f"predicted peak {spelt(needs(answer))}"


def spelt(count: float) -> str:
    """Spell a number of bytes with its unit."""
    scale = numerals.scale("bytes", [count])
    return f"{numerals.number(count / scale.size)} {scale.unit}"


def _why(answer: Mapping[str, Any]) -> str:
    status = answer["status"]
    return answer["reason"] if status == "skipped" else f"{status}: {answer['reason']}"


def _columns(found: Sequence[Mapping[str, Any]]) -> list[list[Strip]]:
    scale = numerals.scale("bytes", (each["peak"] for each in found))
    columns = [("peak", [each["peak"] for each in found])]
    columns += [
        (category.replace("_", " "), [each["at_peak"].get(category, 0) for each in found])
        for category in CATEGORIES
        if any(each["at_peak"].get(category) for each in found)
    ]
    columns += [
        ("kept for backward", [sum(each["kept"].values()) for each in found]),
        ("reserved (simulated)", [each["simulated_reserved"] for each in found]),
    ]
    return [
        [Strip(f"{name} [{scale.unit}]" if i == 0 else name, [_number(v, scale) for v in values])]
        for i, (name, values) in enumerate(columns)
    ]


def _number(value: float, scale: numerals.Scale) -> str:
    return numerals.number(value / scale.size)
