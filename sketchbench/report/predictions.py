"""Predictions as text: what each method of a suite is going to need, in bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sketchbench.measure import CATEGORIES
from sketchbench.report import numerals
from sketchbench.report.paper import Plain, Strip

Answers = Mapping[str, Mapping[str, Any]]  # by method: status, reason, found

SMALL = 0.005  # of the peak: categories that no method has more of are told as `other`
LEGEND = (
    "parts: at the peak; kept for backward: activations and sketches when a backward begins",
    "tensors of torch's CPU path; scratch memory inside kernels is not in them",
    "reserved (simulated): CUDA's caching allocator replaying one step; up to 8 % off on an H100",
)


def show(
    paper: Plain,
    experiment: str,
    answers: Answers,
    baselines: Mapping[str, str | None],
    room: int | None,
) -> None:
    """Print a table for each region of an experiment, and why a method isn't in it."""
    regions = list(dict.fromkeys(r for answer in answers.values() for r in answer["found"]))
    for region in regions:
        paper.line()
        paper.line(experiment + ("" if region == "step" else f", {region}"), "bold")
        found = {m: a["found"][region] for m, a in answers.items() if region in a["found"]}
        paper.grid([Strip("method", list(found))], _columns(found, baselines, room), set())
    unknown = {m: answer for m, answer in answers.items() if answer["status"] != "ok"}
    if not regions:
        paper.line()
        paper.line(experiment, "bold")
    paper.notes(f"not predictable: {m or experiment}: {_why(a)}" for m, a in unknown.items())


def device(kind: str, room: int | None) -> str:
    """Say what predictions are compared with."""
    if room is None:
        return f"device: {kind}, not on this machine, so compared with nothing"
    return f"device: {kind}, {spelt(room)}"


def unfit(placed: Mapping[str, Answers], room: int | None) -> list[str]:
    """Return a line for each method that needs more than the device has."""
    return [
        f"{experiment}{f' · {method}' if method else ''} needs {spelt(needs(answer))}, more than "
        f"the {spelt(room)} of this device"
        for experiment, answers in placed.items()
        for method, answer in answers.items()
        if room is not None and needs(answer) > room
    ]


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


def _columns(
    found: Mapping[str, Mapping[str, Any]], baselines: Mapping[str, str | None], room: int | None
) -> list[list[Strip]]:
    each = list(found.values())
    scale = numerals.scale("bytes", (one["peak"] for one in each))

    def column(name: str, values: Sequence[float]) -> list[Strip]:
        return [Strip(name, [numerals.number(value / scale.size) for value in values])]

    columns = [column(f"peak [{scale.unit}]", [one["peak"] for one in each])]
    shares = [_share(one, found.get(baselines.get(method) or "")) for method, one in found.items()]
    if any(shares):
        columns.append([Strip("of baseline", shares)])
    if room is not None:
        fits = ["no" if one["peak"] > room else "yes" for one in each]
        columns.append([Strip("fits", fits)])
    large = [
        category
        for category in CATEGORIES
        if any(one["at_peak"].get(category, 0) > SMALL * one["peak"] for one in each)
    ]
    for category in large:
        values = [one["at_peak"].get(category, 0) for one in each]
        columns.append(column(category.replace("_", " "), values))
    rest = [one["peak"] - sum(one["at_peak"].get(c, 0) for c in large) for one in each]
    if any(rest):
        columns.append(column("other", rest))
    kept = [sum(one["kept"].values()) for one in each]
    columns.append(column("kept for backward", kept))
    columns.append(column("reserved (simulated)", [one["simulated_reserved"] for one in each]))
    return columns


def _share(one: Mapping[str, Any], baseline: Mapping[str, Any] | None) -> str:
    return f"{one['peak'] / baseline['peak']:.1%}" if baseline and baseline["peak"] else ""
