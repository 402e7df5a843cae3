"""Selection: what a preset and the options of the command line choose of a suite."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sketchbench.recipe import suggest
from sketchbench.suite.compose import LARGEST, compose
from sketchbench.suite.form import Override, SuiteForm
from sketchbench.suite.mistakes import Mistakes, Place
from sketchbench.suite.nodes import Entry, Scalar
from sketchbench.suite.reading import Reading

Names = tuple[str, ...]  # of a point: its experiment, then its labels
Glob = tuple[str, Place]


@dataclass(frozen=True)
class Selection:
    """What is chosen: seeds, overrides in order, and the globs that a point must match.

    `text` tells one variant of the suite from another; `whole` is false where only a part of
    the variant is chosen.
    """

    seeds: Sequence[int]
    overrides: tuple[Override, ...]
    only: tuple[tuple[Glob, ...], ...]
    text: str
    whole: bool


def select(
    form: SuiteForm,
    mistakes: Mistakes,
    preset: str | None,
    sets: Sequence[str],
    only: Sequence[str],
    seeds: int | None,
) -> Selection:
    """Read the options over the presets of a suite; what is wrong with them is noted."""
    whole = not only and seeds is None
    chosen = None
    if preset is not None:
        chosen = form.presets.get(preset)
        if chosen is None:
            known = suggest(preset, form.presets)
            mistakes.add(Place(f"--preset {preset}"), f"{form.name} has no such preset; {known}")
    if seeds is not None and not 1 <= seeds <= LARGEST:
        mistakes.add(Place(f"--seeds {seeds}"), "expected how many, from 1 on")
        seeds = 1
    written = {item.partition("=")[0]: item for item in map(str.strip, sets)}
    assigned = [override for item in sets if (override := _assignment(item.strip(), mistakes))]
    return Selection(
        seeds=range(seeds) if seeds else (chosen and chosen.seeds) or form.seeds,
        overrides=(*(chosen.overrides if chosen else ()), *assigned),
        only=tuple(
            globs
            for globs in (
                preset_globs(chosen.only) if chosen else (),
                tuple((glob, Place(f"--only {glob}")) for glob in only),
            )
            if globs
        ),
        text=", ".join([preset or "", *written.values()]).removeprefix(", "),
        whole=whole,
    )


def preset_globs(only: Iterable[Scalar]) -> tuple[Glob, ...]:
    """Return the globs of a preset with their places."""
    return tuple((glob.text, glob.place) for glob in only)


def _assignment(text: str, mistakes: Mistakes) -> Override | None:
    """Read PATH=VALUE."""
    path_text, equals, value_text = text.partition("=")
    key = Place(f"--set {text}", 1, 1)
    if not equals:
        mistakes.add(Place(key.file), "expected PATH=VALUE, as in workload.epochs=1")
        return None
    path = Reading(mistakes).path(path_text, key)
    indent = len(path_text) + 1
    value = compose(value_text, key.file, mistakes, indent=indent)
    null = Scalar(Place(key.file, 1, 1 + indent), "", None)
    return Override(path, Entry(key, value or null)) if path else None


def matching(names: Iterable[Names], globs: Sequence[Glob], mistakes: Mistakes) -> set[Names]:
    """Return the names that any of the globs matches; a glob that matches none is noted.

    A glob is matched with the experiment, with each label, with all labels joined as they are
    shown, and with `experiment/label`.
    """
    candidates = {each: tuple(_spellings(each)) for each in names}
    chosen: set[Names] = set()
    for glob, place in globs:
        found = {
            each
            for each, spellings in candidates.items()
            if glob in spellings or any(fnmatchcase(text, glob) for text in spellings)
        }
        chosen |= found
        if not found:
            known = {name for each in candidates for name in each}
            mistakes.add(place, f"no label matches '{glob}'; {suggest(glob, known)}")
    return chosen


def _spellings(names: Names) -> Iterable[str]:
    experiment, *labels = names
    yield experiment
    for label in (*labels, " · ".join(labels)):
        yield label
        yield f"{experiment}/{label}"
