"""The key of a cell: a digest of everything that can change what is measured.

In it: the configuration, the source or version of every package that contributes a recipe and of
what these import, the interpreter, device kind and threads. Not in it: labels, names, metrics.
"""

from __future__ import annotations

import hashlib
import json

from sketchbench import environment, sources
from sketchbench.recipe import Recipe
from sketchbench.suite import Cell


class Keys:
    """Computes keys; digests of packages are taken once, when first needed."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._python = environment.python()
        self._digests: dict[frozenset[str], str] = {}
        self._seen: dict[int, tuple[Recipe, frozenset[str]]] = {}  # by identity: seeds share one

    def of(self, cell: Cell) -> str:
        """Return the key of `cell`, 16 hexadecimal digits."""
        facts = (cell.id, self._digest(self._packages(cell.workload)), self._python, self.threads)
        return hashlib.sha256(" ".join(map(str, facts)).encode()).hexdigest()[:16]

    def source(self, metric: Recipe) -> str:
        """Return the digest of the package that a metric comes from: a measurement carries it."""
        return self._digest(frozenset({_package(metric)}))

    def _packages(self, workload: Recipe) -> frozenset[str]:
        found = self._seen.get(id(workload))
        if found is None:
            packages = frozenset(_package(part) for part in workload.parts())
            found = self._seen[id(workload)] = (workload, packages)
        return found[1]

    def _digest(self, packages: frozenset[str]) -> str:
        if packages not in self._digests:
            facts = json.dumps(sources.digest(packages), sort_keys=True)
            self._digests[packages] = hashlib.sha256(facts.encode()).hexdigest()[:16]
        return self._digests[packages]


def _package(recipe: Recipe) -> str:
    return type(recipe).__module__.split(".")[0]
