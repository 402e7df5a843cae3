"""Questions about memory, each answered in a child process: one for every method of a suite."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sketchbench.execute.schedule import Runner
from sketchbench.suite import Cell


@dataclass(frozen=True, eq=False)
class Question:
    """Cells that differ in nothing but seed and place in the suite: one answer is all of theirs."""

    cells: Sequence[Cell]

    @property
    def cell(self) -> Cell:
        """The cell that is asked about."""
        return self.cells[0]


def questions(cells: Iterable[Cell]) -> list[Question]:
    """Gather cells of one configuration, whatever their seed, in the order of the suite."""
    same: dict[str, list[Cell]] = {}
    for cell in cells:
        config = json.dumps([cell.config()["workload"], cell.device], sort_keys=True)
        same.setdefault(config, []).append(cell)
    return [Question(found) for found in same.values()]


def ask(
    what: Literal["predict", "audit"],
    asked: Sequence[Question],
    runner: Runner,
    threads: int,
    timeout: float,
    width: int = 1,
    watch: Callable[[Sequence[Question]], None] = lambda running: None,
) -> Iterator[tuple[Question, dict[str, Any]]]:
    """Yield each question with its answer (status, reason, found), as they come.

    `watch` is told about every second which questions are being answered.
    """
    left = list(asked)
    running: list[tuple[Any, Question]] = []
    while left or running:
        while left and len(running) < width:
            question = left.pop(0)
            request = {"cell": question.cell.request(), "ask": what, "threads": threads}
            running.append((runner.start(request, timeout), question))
        watch([question for _, question in running])
        for handle, answer in runner.wait(1.0):
            if answer is None:
                handle.news = []
                continue
            question = next(q for h, q in running if h is handle)
            running = [(h, q) for h, q in running if h is not handle]
            yield question, {"found": {}} | answer
