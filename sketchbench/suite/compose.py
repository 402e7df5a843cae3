"""Composing: YAML text in, nodes out, with the scalars of YAML 1.2.

`1e-3` is a number; `10:30`, `no` and dates are text. Nothing in the text can make composing
slow, deep or unsafe: only PyYAML's events are used, and nesting and aliases are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from sketchbench.suite.mistakes import Mistakes, Place
from sketchbench.suite.nodes import Entry, Items, Node, Scalar, Table

DEPTH = 50  # levels of nesting
SIZE = 200_000  # nodes, those behind aliases counted each time
LARGEST = 2**63 - 1
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_UNBOUNDED = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_WORDS |= {"true": True, "True": True, "TRUE": True}
_WORDS |= {"false": False, "False": False, "FALSE": False}


def compose(text: str, file: str, mistakes: Mistakes, *, indent: int = 0) -> Node | None:
    """Return the one document in `text`, or None where there is none.

    Columns count from `indent`. Raises `SuiteError` at the first mistake in the syntax; the others
    are noted in `mistakes`.
    """
    composer = _Composer(file, mistakes, indent)
    try:
        return composer.document(yaml.parse(text, Loader=LOADER))
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
        character = error.character if isinstance(error.character, int) else 0
        mistakes.stop(
            composer.place(line, column), f"character U+{character:04X} is not allowed in YAML"
        )
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if mark is None:
            mistakes.stop(composer.last, _explained(error))
        at_fault = text.split("\n")[mark.line : mark.line + 1] or [""]
        is_tab = at_fault[0][mark.column : mark.column + 1] == "\t"
        place = composer.place(mark.line, mark.column)
        what = "not YAML: a tab; indent with spaces" if is_tab else _explained(error)
        mistakes.stop(place, what)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        mistakes.stop(composer.last, f"not YAML: {error}")


class _Composer:
    """Makes nodes of events, and counts how many."""

    def __init__(self, file: str, mistakes: Mistakes, indent: int) -> None:
        self.last = Place(file, 1, 1)
        self._file = file
        self._mistakes = mistakes
        self._indent = indent
        self._size = 0
        self._anchors: dict[str, tuple[Node, int, int] | None] = {}

    def place(self, line: int, column: int) -> Place:
        """Return the place of a mark that counts from 0."""
        return Place(self._file, line + 1, column + 1 + (0 if line else self._indent))

    def document(self, events: Iterator[Any]) -> Node | None:
        """Return the root of the only document."""
        root, documents = None, 0
        for event in events:
            self.last = self.place(event.start_mark.line, event.start_mark.column)
            if isinstance(event, DocumentEndEvent):
                documents += 1
            elif isinstance(event, NodeEvent):
                if documents:
                    self._mistakes.stop(self.last, "a second document; one file holds one suite")
                root, _ = self._node(event, events, 1)
            elif isinstance(event, StreamEndEvent):
                break
        return root

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> tuple[Node, int]:
        """Return the node that `event` begins, and how many levels it has."""
        place = self.last = self.place(event.start_mark.line, event.start_mark.column)
        if isinstance(event, AliasEvent):
            node, levels, size = self._aliased(str(event.anchor), place)
            self._count(size, levels + depth - 1, place)
            return node, levels
        before = self._size
        self._count(1, depth, place)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._refuse_tag(event, place)
        if isinstance(event, ScalarEvent):
            node, levels = self._scalar(event, place), 1
        elif isinstance(event, SequenceStartEvent):
            node, levels = self._items(events, place, depth)
        else:
            assert isinstance(event, MappingStartEvent)
            node, levels = self._table(events, place, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node, levels, self._size - before
        return node, levels

    def _items(self, events: Iterator[Any], place: Place, depth: int) -> tuple[Node, int]:
        items, levels = [], 0
        while not isinstance(event := next(events), SequenceEndEvent):
            item, below = self._node(event, events, depth + 1)
            items.append(item)
            levels = max(levels, below)
        return Items(place, tuple(items)), levels + 1

    def _table(self, events: Iterator[Any], place: Place, depth: int) -> tuple[Node, int]:
        entries: dict[str, Entry] = {}
        levels = 0
        while not isinstance(event := next(events), MappingEndEvent):
            key, _ = self._node(event, events, depth + 1)
            at = self.last if isinstance(event, AliasEvent) else key.place
            value, below = self._node(next(events), events, depth + 1)
            levels = max(levels, below)
            if not isinstance(key, Scalar):
                self._mistakes.add(at, "a key is one word or text, not a list or a mapping")
            elif key.text == "<<" and not getattr(event, "style", None):
                self._mistakes.add(at, "merge keys (<<) left YAML in version 1.2; use an alias")
            elif key.text in entries:
                first = entries[key.text].key
                self._mistakes.add(at, f"'{key.text}' is there already, in line {first.line}")
            else:
                entries[key.text] = Entry(at, value)
        return Table(place, entries), levels + 1

    def _scalar(self, event: Any, place: Place) -> Scalar:
        text = event.value
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            self._mistakes.add(place, "half a surrogate pair is not text", final=True)
        plain = text
        if event.tag is None and event.implicit[0]:
            try:
                plain = _value(text)
            except ValueError as error:
                self._mistakes.add(place, str(error), final=True)
        return Scalar(place, text, plain)

    def _aliased(self, anchor: str, place: Place) -> tuple[Node, int, int]:
        if anchor not in self._anchors:
            self._mistakes.stop(place, f"no anchor '&{anchor}' before this alias")
        found = self._anchors[anchor]
        if found is None:
            self._mistakes.stop(place, f"'*{anchor}' stands inside what it stands for")
        return found

    def _count(self, nodes: int, depth: int, place: Place) -> None:
        self._size += nodes
        if self._size > SIZE:
            self._mistakes.stop(place, f"more than {SIZE:,} values, aliases counted each time")
        if depth > DEPTH:
            self._mistakes.stop(place, f"nested deeper than {DEPTH} levels")

    def _refuse_tag(self, event: Any, place: Place) -> None:
        tag = event.tag
        text = isinstance(event, ScalarEvent)
        if tag in (None, "!") or (text and tag == "tag:yaml.org,2002:str"):
            return
        shown = tag.replace("tag:yaml.org,2002:", "!!")
        self._mistakes.add(place, f"the tag {shown} has no meaning here; remove it", final=True)


def _value(text: str) -> int | float | bool | str | None:
    """Return what an unquoted scalar means in YAML 1.2's core schema."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return _whole(text)
    if _UNBOUNDED.fullmatch(text):
        raise ValueError(f'{text} is not a finite number; a quoted "{text}" is text')
    if _FLOAT.fullmatch(text):
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise ValueError(f"{text} is too large for a number")
        return value
    return text


def _whole(text: str) -> int:
    value = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)) if len(text) < 100 else LARGEST + 1
    if abs(value) > LARGEST:
        shown = text if len(text) <= 20 else f"{text[:19]}…"
        raise ValueError(f"{shown} is too large for a number")
    return value


def _explained(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "can't be read"
    return f"not YAML: {problem}" + (f" ({error.context})" if error.context else "")
