"""Digests of source: what a package and the loose packages that it imports say, and versions.

A package in `site-packages` is known by its version; one that lies elsewhere (editable, or a
folder on the path) can change at any time and is known by its source. Comments and layout don't
count: Python files are compared by their syntax trees.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path

CORE = "sketchbench"
# Rooms of the core that read, show or predict results, and can't change what is measured.
READERS = frozenset(
    {
        *("cli", "report", "scaffold", "testing", "statistics", "claims", "regression"),
        *("predict", "fakes", "audit"),
    }
)
_INSTALLED = ("site-packages", "dist-packages")


def digest(packages: Iterable[str]) -> dict[str, str]:
    """Return {package or distribution: source digest or version} of all that `packages` import.

    `packages` are top-level import names; the core always belongs to them.
    """
    answer: dict[str, str] = {}
    todo, seen = sorted({*packages, CORE}), set[str]()
    while todo:
        name = todo.pop()
        if name in seen or name in sys.stdlib_module_names:
            continue
        seen.add(name)
        folder = _location(name)
        if folder is None:
            continue
        if name == CORE or not any(part in _INSTALLED for part in folder.parts):
            text, imported = _source(folder, READERS if name == CORE else frozenset())
            answer[name] = text
            todo += imported
        else:
            answer |= _versions(name)
    return dict(sorted(answer.items()))


@cache
def _location(name: str) -> Path | None:
    """Return a package's folder, or a module's file; None where it can't be imported."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.has_location and spec.origin else None


@cache
def _source(place: Path, without: frozenset[str]) -> tuple[str, tuple[str, ...]]:
    """Return the digest of all files in a package, and the top-level names that it imports."""
    total, imported = hashlib.sha256(), set[str]()
    for file in _files(place, without):
        content = file.read_bytes()
        if file.suffix == ".py":
            tree = _parsed(content)
            if tree is not None:
                imported.update(_imports(tree))
                content = ast.dump(tree).encode()
        name = file.name if file == place else file.relative_to(place).as_posix()
        total.update(f"{name}:{len(content)}:".encode() + content)
    return total.hexdigest()[:16], tuple(sorted(imported))


def _files(place: Path, without: frozenset[str]) -> Iterator[Path]:
    if place.is_file():
        yield place
        return
    for file in sorted(place.rglob("*")):
        parts = file.relative_to(place).parts
        room = parts[0].removesuffix(".py")
        hidden = any(part.startswith(".") or part == "__pycache__" for part in parts)
        backup = file.name.endswith(("~", ".orig", ".rej"))
        if file.is_file() and not hidden and not backup and room not in without:
            yield file


def _parsed(content: bytes) -> ast.Module | None:
    try:
        return ast.parse(content)
    except (SyntaxError, ValueError):
        return None


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.split(".")[0]


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


@cache
def _versions(name: str) -> dict[str, str]:
    """Return the versions of the distributions behind a module and of all that they require."""
    answer: dict[str, str] = {}
    todo = list(_distributions().get(name, ()))
    while todo:
        try:
            found = metadata.distribution(todo.pop())
        except metadata.PackageNotFoundError:
            continue
        if found.name in answer:
            continue
        answer[found.name] = found.version
        for requirement in found.requires or ():
            if "extra ==" not in requirement:
                todo += re.findall(r"^[A-Za-z0-9._-]+", requirement)
    return answer
