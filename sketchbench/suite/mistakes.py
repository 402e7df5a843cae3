"""Mistakes: what is wrong with a suite, and where; all are gathered before any is raised."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, NoReturn


class Place(NamedTuple):
    """Where something is written: a file, or an option of the command line, from line 1 on.

    Line 0 is the whole of it.
    """

    file: str
    line: int = 0
    column: int = 0


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong in a suite, or in the options it is read with."""

    file: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return _one_line(f"{where}: {self.text}")


class SuiteError(Exception):
    """A suite can't be read; `str` is one line a mistake."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__(self.mistakes)

    def __str__(self) -> str:
        return "\n".join(map(str, self.mistakes))


class Mistakes:
    """A growing list of mistakes, each once."""

    def __init__(self) -> None:
        self._found: dict[Mistake, None] = {}
        self._final: set[Place] = set()

    def add(self, place: Place, text: str, *, final: bool = False) -> None:
        """Note a mistake; where it is `final`, later ones of the same place are its echoes."""
        if place not in self._final:
            self._found[Mistake(*place, text)] = None
        if final:
            self._final.add(place)

    def stop(self, place: Place, text: str) -> NoReturn:
        """Note a mistake after which nothing can be read, and raise all."""
        self.add(place, text)
        raise SuiteError(self._sorted())

    def settle(self) -> None:
        """Raise `SuiteError` if there was any mistake."""
        if self._found:
            raise SuiteError(self._sorted())

    def __len__(self) -> int:
        return len(self._found)

    def _sorted(self) -> list[Mistake]:
        """Return the file's mistakes in its order, then those of the command line."""
        return sorted(
            self._found, key=lambda m: (m.file.startswith("--"), m.file, m.line, m.column)
        )


def _one_line(text: str) -> str:
    """Return `text` on one line, with what a terminal would obey or hide spelled out."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in " ".join(text.split())
    )
