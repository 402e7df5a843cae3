"""The key of a cell: a digest of everything that can change what is measured.

In it: the configuration, the source or version of every package that contributes a recipe and of
what these import, the interpreter, device kind and threads. Not in it: labels, names, metrics.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from sketchbench import environment, sources
from sketchbench.recipe import Recipe
from sketchbench.suite import Cell


class Keys:
    """Computes keys; digests of packages are taken once, when first needed."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._digests: dict[frozenset[str], str] = {}

    def of(self, cell: Cell) -> str:
        """Return the key of `cell`, 16 hexadecimal digits."""
        packages = frozenset(_package(part) for part in cell.workload.parts())
        facts = [cell.id, self._digest(packages), environment.python(), self.threads]
        return _hash(facts)

    def source(self, metric: Recipe) -> str:
        """Return the digest of the package that a metric comes from: a measurement carries it."""
        return self._digest(frozenset({_package(metric)}))

    def _digest(self, packages: frozenset[str]) -> str:
        if packages not in self._digests:
            self._digests[packages] = _hash(sources.digest(packages))
        return self._digests[packages]


def _package(recipe: Recipe) -> str:
    return type(recipe).__module__.split(".")[0]


def _hash(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
