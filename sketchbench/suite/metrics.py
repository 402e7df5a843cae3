"""The metrics of an experiment: which there are, and where each is read."""

from __future__ import annotations

from sketchbench.kinds import Workload
from sketchbench.metric import Derived, Metric, Probe, Score
from sketchbench.recipe import Lookup, suggest
from sketchbench.run import Wanted, places
from sketchbench.suite.check import check
from sketchbench.suite.mistakes import Mistakes, Place
from sketchbench.suite.nodes import Entry, Items, Node, Scalar, Table, name_of
from sketchbench.suite.paths import recipe_class


class MetricReading:
    """Reads a list of metrics over a class of workload, and notes each mistake."""

    def __init__(self, workload: type[Workload] | None, lookup: Lookup, mistakes: Mistakes) -> None:
        self._workload = workload
        self._lookup = lookup
        self._mistakes = mistakes
        self._wanted: dict[tuple[str, str], tuple[Wanted, Place]] = {}
        self._named: list[tuple[str, str]] = []

    def metrics(self, node: Items) -> tuple[Wanted, ...]:
        """Read `accuracy`, `accuracy@train` and `{use: accuracy, at: train}`, in order."""
        derived = []
        for item in node.items:
            bare, where = self._split(item)
            metric = check(Metric, bare, "metrics", self._lookup, self._mistakes)
            if metric is None:
                name = bare.get("use") if isinstance(bare, Table) else bare
                self._named.append((name.text if isinstance(name, Scalar) else "", ""))
                continue
            if isinstance(metric, Derived):
                derived.append((metric, item.place))
            for place in self._places(metric, where, item.place):
                self._add(Wanted(metric, place), item.place)
        for metric, at in derived:
            self._check_needs(metric, at)
        return tuple(wanted for wanted, _ in self._wanted.values())

    def _split(self, node: Node) -> tuple[Node, str | None]:
        """Take `@where` or `at: where` off a metric."""
        if isinstance(node, Scalar) and isinstance(node.plain, str) and "@" in node.plain:
            name, _, where = node.plain.partition("@")
            return Scalar(node.place, name, name), where
        if isinstance(node, Table) and "at" in node.entries:
            owner = recipe_class(node, Metric, self._lookup)
            where_node = node.entries["at"].value
            if owner is None or "at" not in owner.model_fields:
                rest: dict[str, Entry] = {k: e for k, e in node.entries.items() if k != "at"}
                if isinstance(where_node, Scalar):
                    return Table(node.place, rest), where_node.text
                self._mistakes.add(
                    where_node.place, f"metrics.at: expected a place; got {name_of(where_node)}"
                )
                return Table(node.place, rest), None
        return node, None

    def _places(self, metric: Metric, where: str | None, at: Place) -> tuple[str, ...]:
        """Return where a metric is read: at `where`, or at its usual places."""
        self._named.append((metric.name, where or ""))
        if isinstance(metric, Derived):
            if where is not None:
                self._mistakes.add(
                    at,
                    f"metrics: '{metric.name}' is derived from other metrics; it has no '@{where}'",
                )
            return ("",)
        if self._workload is None:
            return ()
        possible = places(self._workload, metric)
        if not possible:
            self._mistakes.add(at, f"metrics: {self._misfit(metric)}")
            return ()
        if where is not None:
            if where not in possible:
                self._mistakes.add(
                    at,
                    f"metrics: workload '{self._workload.name}' has no '{metric.name}' at"
                    f" '{where}'; {suggest(where, possible)}",
                )
            return (where,) if where in possible else ()
        usual = isinstance(metric, Score) and "test" in possible
        return ("test",) if usual else possible

    def _misfit(self, metric: Metric) -> str:
        """Say what a metric needs and what the workload has instead."""
        workload = self._workload
        assert workload is not None
        if isinstance(metric, Probe):
            has = ", ".join(workload.regions) or "none"
            return (
                f"'{metric.name}' is measured in the region {' or '.join(metric.regions)}; workload"
                f" '{workload.name}' has {has}"
            )
        assert isinstance(metric, Score)
        has = ", ".join(f"{name} ({kind.__name__})" for name, kind in workload.outcomes.items())
        return (
            f"'{metric.name}' judges {metric.consumes.__name__}; workload '{workload.name}'"
            f" delivers {has or 'nothing'}"
        )

    def _add(self, wanted: Wanted, at: Place) -> None:
        key = wanted.metric.label(), wanted.where
        if key in self._wanted:
            first = self._wanted[key][1]
            self._mistakes.add(
                at, f"metrics: '{wanted.label()}' is there already, in line {first.line}"
            )
        else:
            self._wanted[key] = wanted, at

    def _check_needs(self, metric: Derived, at: Place) -> None:
        read = {(w.metric.name, w.where) for w, _ in self._wanted.values()} | set(self._named)
        for need in metric.needs:
            name, _, where = need.partition("@")
            found = (name, where) in read if where else any(name == n for n, _ in read)
            if not found:
                self._mistakes.add(
                    at, f"metrics: '{metric.name}' needs '{need}'; add it to the metrics"
                )
