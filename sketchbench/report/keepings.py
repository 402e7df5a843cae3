"""Keepings as text: which module keeps which tensor for the backward pass, as a tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from sketchbench.report.paper import Plain
from sketchbench.report.predictions import spelt

OUTSIDE = "(outside the model)"

Kept = Mapping[str, Any]


def show(
    paper: Plain,
    method: str,
    found: Mapping[str, Any],
    baseline: int | None,
    depth: int | None = None,
) -> None:
    """Print the tree of one method: modules, what each keeps, totals, and the difference.

    Neighbouring modules that keep the same are told once. `depth` is the levels of modules that
    are shown, all by default; what is below is in the totals.
    """
    total = found["total"]
    paper.line()
    paper.line(f"{method}: {spelt(total)} kept for the backward pass{_against(total, baseline)}")
    tree = _Tree(found)
    _branch(paper, "", tree, depth)
    if "" in tree.keeping:
        paper.line(f"{OUTSIDE}: {spelt(sum(kept['size'] for kept in tree.own('')))}", indent=2)
        for line in tree.lines(""):
            paper.line(line, indent=4)


class _Tree:
    """What is kept, by the first module that keeps it, and by the others that share it."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self.kinds: Mapping[str, str] = dict(found["modules"])
        self._counted: dict[str, list[Kept]] = {}
        self._shared: dict[str, list[tuple[Kept, str]]] = {}
        for kept in found["kept"]:
            owner, *others = kept["keepers"] or [kept["born"]]
            self._counted.setdefault(owner, []).append(kept)
            for other in others:
                self._shared.setdefault(other, []).append((kept, owner))

    @cached_property
    def keeping(self) -> set[str]:
        """The modules that keep something, be it counted or not, and all those around them."""
        names = {*self._counted, *self._shared}
        return names | {around for name in names for around in _around(name)}

    def children(self, name: str) -> list[str]:
        """Return the modules directly in one that keep something, in the model's order."""
        return [m for m in self.kinds if m in self.keeping and m and _parent(m) == name]

    def own(self, name: str) -> Sequence[Kept]:
        """Return what is counted under a module itself."""
        return self._counted.get(name, [])

    def total(self, name: str) -> int:
        """Return the bytes that a module and all modules in it are counted for."""
        own: int = sum(kept["size"] for kept in self.own(name))
        return own + sum(self.total(child) for child in self.children(name))

    def lines(self, name: str, seen_from: str = "") -> Iterator[str]:
        """Yield a line for each tensor that a module keeps; modules are named as seen from one."""
        small = [k for k in self.own(name) if not k["keepers"] and not k["shape"]]
        for kept in self.own(name):
            if len(small) < 2 or kept not in small:
                yield f"{_tensor(kept)}: {spelt(kept['size'])}{_how(kept, seen_from)}"
        if len(small) > 1:
            size = spelt(sum(kept["size"] for kept in small))
            yield f"{len(small)} scalars: {size}, held, but not as saved tensors"
        for kept, owner in self._shared.get(name, []):
            yield f"{_tensor(kept)}: counted under {_seen(owner, seen_from)}"

    def form(self, name: str, root: str) -> tuple[Any, ...]:
        """Return what a module and those in it keep, equal for modules that are shown alike."""
        inside = [self.form(child, root) for child in self.children(name)]
        return (name[len(root) :], self.kinds[name], *self.lines(name, root), *inside)


def _branch(paper: Plain, name: str, tree: _Tree, depth: int | None) -> None:
    """Print the modules in one, those alike in a row only once."""
    if depth == 0:
        return
    left = tree.children(name)
    while left:
        first, *left = left
        form, alike = tree.form(first, first), []
        while left and tree.form(left[0], left[0]) == form:
            alike.append(left.pop(0))
        _module(paper, first, tree, None if depth is None else depth - 1)
        if alike:
            count = len(alike)
            span = f"{alike[0]} to {alike[-1]}" if count > 1 else alike[0]
            words = f"{span} ({tree.kinds[first]}), as {first}"
            size = spelt(sum(tree.total(each) for each in alike))
            paper.line(f"{words}: {size}", indent=2 * (first.count(".") + 1))


def _module(paper: Plain, name: str, tree: _Tree, depth: int | None) -> None:
    indent = 2 * (name.count(".") + 1)
    paper.line(f"{name} ({tree.kinds[name]}): {spelt(tree.total(name))}", indent=indent)
    for line in tree.lines(name):
        paper.line(line, indent=indent + 2)
    _branch(paper, name, tree, depth)


def _parent(name: str) -> str:
    return name.rpartition(".")[0]


def _around(name: str) -> Iterator[str]:
    while name := _parent(name):
        yield name


def _seen(other: str, root: str) -> str:
    """Name a module as seen from another: numbers beside the other's own are told as distances."""
    if not other:
        return OUTSIDE
    parts, place = other.split("."), root.count(".")
    own = root.rpartition(".")[2]
    beside = root and len(parts) > place and _parent(root) == ".".join(parts[:place])
    if beside and own.isdigit() and parts[place].isdigit():
        parts[place] = f"{int(parts[place]) - int(own):+d}"
    return ".".join(parts)


def _tensor(kept: Kept) -> str:
    shape = " × ".join(map(str, kept["shape"])) or "scalar"
    op = kept["op"].removeprefix("aten.").split(".")[0].strip("_")
    sketch = "sketch, " if kept["category"] == "sketches" else ""
    return f"{sketch}{op} {shape} {kept['dtype']}"


def _how(kept: Kept, seen_from: str) -> str:
    """Say who else keeps it, or that no saved tensor does."""
    if not kept["keepers"]:
        return ", held, but not as a saved tensor"
    others = [_seen(other, seen_from) for other in kept["keepers"][1:]]
    return f", also kept by {', '.join(others)}" if others else ""


def _against(total: int, baseline: int | None) -> str:
    if baseline is None:
        return ""
    change = total - baseline
    if not change:
        return ", as much as the baseline"
    share = f" ({change / baseline:+.1%})" if baseline else ""
    return f", {'+' if change > 0 else '-'}{spelt(abs(change))} against the baseline{share}"
