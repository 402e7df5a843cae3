"""Paper: where a report is written, be it a terminal or plain lines that are never cut."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from sketchbench.report.plans import one_line

GAP = 2  # blanks between columns
INDENT = 2  # blanks before a note
WIDE = 200  # columns of plain lines after which a table goes on below, its labels in sight again
_ASCII = str.maketrans(
    {"±": "+-", "Δ": "d", "↑": "^", "↓": "v", "–": "-", "—": "-", "×": "x", "µ": "u", "…": "~"}
)


@dataclass(frozen=True)
class Strip:
    """One column of text under its header; the rows in `bold` stand out, the others in `style`."""

    header: str
    texts: Sequence[str]
    bold: frozenset[int] = frozenset()
    style: str = ""

    @property
    def width(self) -> int:
        """The columns of a terminal that it takes."""
        return max(map(cell_len, (self.header, *self.texts)))

    def padded(self, left: bool = False) -> Strip:
        """Return the strip with all its texts as wide as the widest, to the right or left."""
        width = self.width

        def pad(text: str) -> str:
            blank = " " * (width - cell_len(text))
            return text + blank if left else blank + text

        return self.each(pad)

    def each(self, change: Callable[[str], str]) -> Strip:
        """Return the strip with all its texts changed."""
        return replace(self, header=change(self.header), texts=[change(t) for t in self.texts])


class Plain:
    """Lines as long as they need to be, without colours; wide tables in parts."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._width = WIDE
        self._ascii = not console.encoding.lower().startswith("utf")

    def line(self, words: str = "", style: str = "", indent: int = 0) -> None:
        """Write one line."""
        self._console.out(" " * indent + self._spelt(words), highlight=False)

    def notes(self, lines: Iterable[str]) -> None:
        """Write lines that explain, indented."""
        for words in lines:
            self.line(words, "dim", INDENT)

    def grid(
        self,
        first: Sequence[Strip],
        rest: Sequence[Sequence[Strip]],
        dim: set[int],
        title: str = "",
    ) -> None:
        """Write strips side by side, the first ones again where the rest doesn't fit at once."""
        first = [strip.each(self._spelt) for strip in first]
        rest = [[strip.each(self._spelt) for strip in strips] for strips in rest]
        for part, strips in enumerate(_fitting(first, rest, self._width)):
            if part:
                self.line()
                if title:
                    self.line(f"{title}, continued", "dim")
            self._part(strips, dim)

    def _part(self, strips: Sequence[Strip], dim: set[int]) -> None:
        """Write strips side by side: the first to the left, all others to the right."""
        strips = [strips[0].padded(left=True), *(strip.padded() for strip in strips[1:])]
        for row in zip(*((strip.header, *strip.texts) for strip in strips), strict=True):
            self._console.out((" " * GAP).join(row).rstrip(), highlight=False)

    def _spelt(self, words: str) -> str:
        """Return words as one printable line, in what the console can encode."""
        words = one_line(words, sys.maxsize) if not words.isprintable() else words
        if not self._ascii:
            return words
        encoding = self._console.encoding
        return words.translate(_ASCII).encode(encoding, "replace").decode(encoding)


class Screen(Plain):
    """A terminal: emphasis, notes wrapped, and tables in parts that fit."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._width = console.width

    def line(self, words: str = "", style: str = "", indent: int = 0) -> None:
        """Write one line, wrapped to the right of its indentation."""
        if not words:  # which a padding would swallow
            self._console.print()
            return
        text = Padding(Text(self._spelt(words), style), (0, 0, 0, indent), expand=False)
        self._console.print(text, highlight=False)

    def _part(self, strips: Sequence[Strip], dim: set[int]) -> None:
        grid = Grid(box=None, show_edge=False, pad_edge=False, padding=(0, GAP, 0, 0))
        padded = [strips[0], *(strip.padded() for strip in strips[1:])]
        for i, strip in enumerate(padded):
            header = Text(strip.header, "bold")
            grid.add_column(header, no_wrap=i > 0, overflow="fold")
        for r in range(len(padded[0].texts)):
            texts = ((s.texts[r], "bold" if r in s.bold else s.style) for s in padded)
            cells = (Text(words, style) for words, style in texts)
            grid.add_row(*cells, style="dim" if r in dim else None)
        self._console.print(grid, highlight=False)


def _fitting(
    first: Sequence[Strip], rest: Iterable[Sequence[Strip]], width: int
) -> Iterator[list[Strip]]:
    """Part the metrics so that each part fits beside the first columns."""
    room = width - min(first[0].width, width // 3) - sum(s.width + GAP for s in first[1:])
    part: list[Strip] = []
    for strips in rest:
        if part and sum(strip.width + GAP for strip in chain(part, strips)) > room:
            yield [*first, *part]
            part = []
        part += strips
    yield [*first, *part]
