"""The form of a suite file: which keys there are and what each must be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sketchbench.suite.mistakes import Place
from sketchbench.suite.nodes import Entry, Items, Scalar, Table

SUITE_KEYS = ("suite", "title", "seeds", "timeout", "presets", "experiments", "claims")
EXPERIMENT_KEYS = (
    *("name", "title", "workload", "metrics", "matrix", "baseline", "control"),
    *("sort", "tune"),
)
TUNE_KEYS = ("axis", "by")
PRESET_KEYS = ("seeds", "only")


@dataclass(frozen=True)
class Override:
    """A value that a preset or `--set` puts on a path of every workload that has it."""

    path: tuple[str, ...]
    entry: Entry

    @property
    def name(self) -> str:
        """The path as it is written."""
        return ".".join(("workload", *self.path))


@dataclass(frozen=True)
class PresetForm:
    """A named selection, as it is written."""

    seeds: Sequence[int] | None
    only: tuple[Scalar, ...]
    overrides: tuple[Override, ...]


@dataclass(frozen=True)
class ExperimentForm:
    """An experiment, as it is written."""

    place: Place
    name: str
    title: str
    workload: Entry
    metrics: Items
    matrix: Items | Table | None
    baseline: Scalar | None
    control: Scalar | None
    sort: Scalar | None = None
    tune: Mapping[str, Scalar] | None = None


@dataclass(frozen=True)
class SuiteForm:
    """A suite, as it is written; what is wrong in it is noted and left out."""

    name: str
    title: str
    seeds: Sequence[int]
    timeout: float | None
    presets: Mapping[str, PresetForm]
    experiments: tuple[ExperimentForm, ...]
    claims: tuple[Mapping[str, Any], ...]
