"""Keepings as text: which module keeps which tensor for the backward pass, as a tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sketchbench.report.paper import Plain
from sketchbench.report.predictions import spelt

OUTSIDE = "(outside the model)"

Kept = Mapping[str, Any]


def show(paper: Plain, method: str, found: Mapping[str, Any], baseline: int | None) -> None:
    """Print the tree of one method: modules, what each keeps, totals, and the difference."""
    total = found["total"]
    paper.line()
    paper.line(f"{method}: {spelt(total)} kept for the backward pass{_against(total, baseline)}")
    tree = _Tree(found)
    for name in tree.modules:
        _module(paper, name, tree)


class _Tree:
    """What is kept, by the first module that keeps it, and by the others that share it."""

    def __init__(self, found: Mapping[str, Any]) -> None:
        self.kinds: Mapping[str, str] = dict(found["modules"])
        self.counted: dict[str, list[Kept]] = {}
        self.shared: dict[str, list[tuple[Kept, str]]] = {}
        for kept in found["kept"]:
            owner, *others = kept["keepers"] or [kept["born"]]
            self.counted.setdefault(owner, []).append(kept)
            for other in others:
                self.shared.setdefault(other, []).append((kept, owner))
        keeping = {*self.counted, *self.shared}
        inside = [m for m in self.kinds if m and any(_within(each, m) for each in keeping)]
        self.modules = [*inside, *([""] if "" in keeping else [])]

    def total(self, name: str) -> int:
        """Return the bytes that a module and all modules in it are counted for."""
        owners = [m for m in self.counted if (_within(m, name) if name else m == name)]
        return sum(kept["size"] for owner in owners for kept in self.counted[owner])


def _within(module: str, other: str) -> bool:
    return module == other or module.startswith(f"{other}.")


def _module(paper: Plain, name: str, tree: _Tree) -> None:
    indent = 2 * (name.count(".") + 1)
    label = f"{name} ({tree.kinds[name]})" if name else OUTSIDE
    paper.line(f"{label}: {spelt(tree.total(name))}", indent=indent)
    for kept in tree.counted.get(name, []):
        paper.line(f"{_tensor(kept)}: {spelt(kept['size'])}{_how(kept)}", indent=indent + 2)
    for kept, owner in tree.shared.get(name, []):
        paper.line(f"{_tensor(kept)}: counted under {owner or OUTSIDE}", indent=indent + 2)


def _tensor(kept: Kept) -> str:
    shape = " × ".join(map(str, kept["shape"])) or "scalar"
    op = kept["op"].removeprefix("aten.").split(".")[0].strip("_")
    sketch = "sketch, " if kept["category"] == "sketches" else ""
    return f"{sketch}{op} {shape} {kept['dtype']}"


def _how(kept: Kept) -> str:
    """Say who else keeps it, or that no saved tensor does."""
    _, *others = kept["keepers"] or [""]
    if not kept["keepers"]:
        return ", held, but not as a saved tensor"
    return f", also kept by {', '.join(other or OUTSIDE for other in others)}" if others else ""


def _against(total: int, baseline: int | None) -> str:
    if baseline is None:
        return ""
    change = total - baseline
    if not change:
        return ", as much as the baseline"
    share = f" ({change / baseline:+.1%})" if baseline else ""
    return f", {'+' if change > 0 else '-'}{spelt(abs(change))} against the baseline{share}"
