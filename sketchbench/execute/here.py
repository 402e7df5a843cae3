"""Passes in this very process, for a debugger: no isolation, no timeout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sketchbench.execute import worker
from sketchbench.recipe import Lookup


@dataclass
class Done:
    """A request that has been done."""

    answer: dict[str, Any] = field(default_factory=dict)
    news: list[dict[str, Any]] = field(default_factory=list)


class Here:
    """Does each request when it is started."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._done: list[Done] = []

    def __enter__(self) -> Here:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was started, so nothing is left behind."""

    def start(self, request: dict[str, Any], timeout: float) -> Done:
        """Do the request now; `timeout` can't be kept in one's own process."""
        done = Done()
        done.answer = worker.do(request, self._lookup, done.news.append)
        self._done.append(done)
        return done

    def wait(self, seconds: float) -> Iterator[tuple[Done, dict[str, Any] | None]]:
        """Yield what has been done since the last call."""
        done, self._done = self._done, []
        yield from ((each, each.answer) for each in done)
