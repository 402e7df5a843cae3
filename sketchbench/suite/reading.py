"""Reading: nodes into the form of a suite, with every key and every type checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sketchbench.recipe import suggest
from sketchbench.suite.compose import DEPTH
from sketchbench.suite.form import (
    EXPERIMENT_KEYS,
    PRESET_KEYS,
    SUITE_KEYS,
    TUNE_KEYS,
    ExperimentForm,
    Override,
    PresetForm,
    SuiteForm,
)
from sketchbench.suite.mistakes import Mistakes, Place
from sketchbench.suite.nodes import Items, Node, Scalar, Table, name_of

_NAME = re.compile(r"[A-Za-z0-9]+([-_.][A-Za-z0-9]+)*")


class Reading:
    """Reads the form, and notes each mistake where it is."""

    def __init__(self, mistakes: Mistakes) -> None:
        self._mistakes = mistakes

    def suite(self, node: Node | None, file: str) -> SuiteForm:
        """Read a whole file; raise `SuiteError` where it holds no mapping."""
        if node is None or (isinstance(node, Scalar) and node.text == ""):
            self._mistakes.stop(Place(file, 1, 1), f"no suite; expected {', '.join(SUITE_KEYS)}")
        if not isinstance(node, Table):
            self._mistakes.stop(
                node.place, f"expected a mapping with {', '.join(SUITE_KEYS)}; got {name_of(node)}"
            )
        self._keys(node, "a suite", SUITE_KEYS, ("suite", "experiments"))
        name = self._text(node, "suite")
        if name and not _NAME.fullmatch(name):
            self._wrong(node, "suite", "a name of letters, digits and dashes (my-suite)")
        experiments = [self._experiment(item) for item in self._list(node, "experiments")]
        self._distinct(experiments)
        return SuiteForm(
            name=name,
            title=self._text(node, "title"),
            seeds=self.seeds(node.get("seeds")) or range(1),
            timeout=self._seconds(node, "timeout"),
            presets=self._presets(node.get("presets")),
            experiments=tuple(experiment for experiment in experiments if experiment),
            claims=tuple(self._claims(node)),
        )

    def seeds(self, node: Node | None) -> Sequence[int] | None:
        """Read a number of seeds or a list of them."""
        if node is None:
            return None
        if (count := _whole(node)) is not None and count >= 1:
            return range(count)
        if not isinstance(node, Items) or not node.items:
            self._mistakes.add(
                node.place,
                f"seeds: expected how many (from 1 on), or a list of seeds; got {name_of(node)}",
            )
            return None
        seeds: dict[int, Place] = {}
        for item in node.items:
            seed = _whole(item)
            if seed is None or seed < 0:
                self._mistakes.add(
                    item.place, f"seeds: expected a whole number from 0 on; got {name_of(item)}"
                )
            elif seed in seeds:
                self._mistakes.add(item.place, f"seeds: {seed} is there already")
            else:
                seeds[seed] = item.place
        return tuple(seeds)

    # ------------------------------------------------------------ parts

    def _experiment(self, node: Node) -> ExperimentForm | None:
        if not isinstance(node, Table):
            self._mistakes.add(
                node.place, f"experiments: expected a mapping with name; got {name_of(node)}"
            )
            return None
        self._keys(node, "an experiment", EXPERIMENT_KEYS, ("name", "workload", "metrics"))
        name = self._text(node, "name")
        title = self._text(node, "title")
        metrics = Items(node.place, tuple(self._list(node, "metrics")))
        matrix = node.get("matrix")
        if isinstance(matrix, Scalar):
            self._wrong(node, "matrix", "a mapping of paths to values, or a list of such mappings")
        baseline, control = self._label(node, "baseline"), self._label(node, "control")
        workload = node.entries.get("workload")
        if workload is None:
            return None
        return ExperimentForm(
            place=node.entries["name"].value.place if name else node.place,
            name=name,
            title=title,
            workload=workload,
            metrics=metrics,
            matrix=None if isinstance(matrix, Scalar) else matrix,
            baseline=baseline,
            control=control,
            sort=self._label(node, "sort", "a metric of the experiment"),
            tune=self._tune(node.get("tune")),
        )

    def _tune(self, node: Node | None) -> dict[str, Scalar] | None:
        """Read `tune: {axis: PATH, by: METRIC}`."""
        if node is None:
            return None
        if not isinstance(node, Table):
            self._mistakes.add(
                node.place, f"tune: expected a mapping with axis and by; got {name_of(node)}"
            )
            return None
        self._keys(node, "tune", TUNE_KEYS, TUNE_KEYS)
        found = {key: self._label(node, key) for key in TUNE_KEYS}
        if any(label is None for label in found.values()):
            return None
        return {key: label for key, label in found.items() if label is not None}

    def _distinct(self, experiments: Iterable[ExperimentForm | None]) -> None:
        places: dict[str, Place] = {}
        for experiment in experiments:
            if experiment is None or not experiment.name:
                continue
            first = places.setdefault(experiment.name, experiment.place)
            if first != experiment.place:
                self._mistakes.add(
                    experiment.place,
                    f"name: '{experiment.name}' is the experiment of line {first.line} already",
                )

    def _presets(self, node: Node | None) -> dict[str, PresetForm]:
        if node is None:
            return {}
        if not isinstance(node, Table):
            self._mistakes.add(
                node.place, f"presets: expected a mapping of names to presets; got {name_of(node)}"
            )
            return {}
        return {name: self._preset(name, entry.value) for name, entry in node.entries.items()}

    def _preset(self, name: str, node: Node) -> PresetForm:
        if not isinstance(node, Table):
            self._mistakes.add(
                node.place,
                f"presets.{name}: expected a mapping of seeds, only and workload.… paths;"
                f" got {name_of(node)}",
            )
            return PresetForm(None, (), ())
        overrides = []
        for key, entry in node.entries.items():
            if key.startswith("workload."):
                path = self.path(key, entry.key)
                overrides += [Override(path, entry)] if path else []
            elif key not in PRESET_KEYS:
                known = suggest(key, (*PRESET_KEYS, "workload.…"))
                self._mistakes.add(entry.key, f"presets.{name}: no key '{key}'; {known}")
        return PresetForm(self.seeds(node.get("seeds")), self._globs(node), tuple(overrides))

    def path(self, text: str, place: Place) -> tuple[str, ...] | None:
        """Read a dotted path below `workload`, without that word."""
        first, *rest = text.split(".")
        if first != "workload" or not rest or not all(rest):
            self._mistakes.add(
                place, f"'{text}' is no path; write workload.…, as in workload.epochs"
            )
            return None
        if len(rest) > DEPTH:
            self._mistakes.add(place, f"a path of more than {DEPTH} names")
            return None
        if "use" in rest:
            slot = ".".join(text.split(".")[: 1 + rest.index("use")])
            self._mistakes.add(place, f"'{text}' ends too late; the slot itself is {slot}")
            return None
        return tuple(rest)

    def _globs(self, node: Table) -> tuple[Scalar, ...]:
        only = node.get("only")
        globs = only.items if isinstance(only, Items) else () if only is None else (only,)
        for glob in globs:
            if not isinstance(glob, Scalar):
                self._mistakes.add(glob.place, f"only: expected a label; got {name_of(glob)}")
        return tuple(glob for glob in globs if isinstance(glob, Scalar))

    def _claims(self, node: Table) -> Iterable[Mapping[str, Any]]:
        for claim in self._list(node, "claims", least=0):
            if isinstance(claim, Table):
                yield claim.plain
            else:
                self._mistakes.add(claim.place, f"claims: expected a mapping; got {name_of(claim)}")

    # ------------------------------------------------------------ values

    def _keys(self, node: Table, what: str, known: Sequence[str], needed: Sequence[str]) -> None:
        for name, entry in node.entries.items():
            if name not in known:
                self._mistakes.add(entry.key, f"{what} has no key '{name}'; {suggest(name, known)}")
        for name in needed:
            if name not in node.entries:
                self._mistakes.add(node.place, f"{what} needs '{name}'")

    def _text(self, node: Table, name: str) -> str:
        value = node.get(name)
        if value is None:
            return ""
        if isinstance(value, Scalar) and isinstance(value.plain, str):
            if is_label(value.plain):
                return value.plain
            self._wrong(node, name, "one line of text")
        else:
            self._wrong(node, name, "text (numbers in quotes)")
        return ""

    def _label(self, node: Table, name: str, what: str = "a label of the matrix") -> Scalar | None:
        value = node.get(name)
        if value is not None and not isinstance(value, Scalar):
            self._wrong(node, name, what)
            return None
        return value

    def _list(self, node: Table, name: str, least: int = 1) -> Sequence[Node]:
        value = node.get(name)
        if value is None:
            return ()
        if isinstance(value, Items) and len(value.items) >= least:
            return value.items
        self._wrong(node, name, "a list" + (" with at least one entry" if least else ""))
        return ()

    def _seconds(self, node: Table, name: str) -> float | None:
        value = node.get(name)
        if value is None:
            return None
        plain = value.plain
        if isinstance(plain, (int, float)) and not isinstance(plain, bool) and plain > 0:
            return float(plain)
        self._wrong(node, name, "seconds, more than 0")
        return None

    def _wrong(self, node: Table, name: str, expected: str) -> None:
        value = node.entries[name].value
        self._mistakes.add(value.place, f"{name}: expected {expected}; got {name_of(value)}")


def is_label(text: str) -> bool:
    """Whether `text` can be a label or a name: printable, on one line, not blank at its ends."""
    return text.replace("\u00a0", " ").isprintable() and text == text.strip() != ""


def _whole(node: Node) -> int | None:
    plain = node.plain
    return plain if isinstance(plain, int) and not isinstance(plain, bool) else None
