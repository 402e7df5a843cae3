"""The schedule: which cells must run, which passes each needs, and how records come of them."""

from __future__ import annotations

import datetime
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from sketchbench.execute.keys import Keys
from sketchbench.kinds import Task
from sketchbench.metric import Probe
from sketchbench.run import is_stored
from sketchbench.store import Measurement, Record, Store
from sketchbench.suite import Cell, Suite

RESULT, AUDIT = "result", "audit"
PREPARE_SECONDS = 24 * 3600.0  # a download may take long; its own timeouts end it


@dataclass
class Job:
    """What one key needs: the passes still to run, and for which cells of the suite.

    `cell` stands for all `cells`: the same configuration, with the metrics that any asks for.
    """

    cell: Cell
    cells: tuple[Cell, ...]
    key: str
    stages: tuple[str, ...]
    record: Record | None = None
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    started: str = ""
    begun: float = 0.0
    stage: str = ""
    handle: Any = None


class Observer(Protocol):
    """Who watches a schedule at work: a terminal."""

    def preparing(self, task: str, text: str) -> None:
        """A task fetches its data."""

    def started(self, job: Job) -> None:
        """A pass of a cell has begun."""

    def news(self, job: Job, news: Mapping[str, Any]) -> None:
        """A running cell delivered something."""

    def ended(self, job: Job, record: Record) -> None:
        """A cell's record is stored."""

    def warning(self, text: str) -> None:
        """Something went wrong that stops nothing."""


class Runner(Protocol):
    """What does requests: child processes, or this process."""

    def start(self, request: dict[str, Any], timeout: float) -> Any:
        """Begin a request and return its handle."""

    def wait(self, seconds: float) -> Iterator[tuple[Any, dict[str, Any] | None]]:
        """Yield each handle that ended with its answer, or that has news with None."""


def plan(suite: Suite, records: Mapping[str, Record], keys: Keys, force: bool = False) -> list[Job]:
    """Return a job for every key, in execution order; `stages` is empty where nothing is left.

    Cells of one configuration, in whatever experiment, are one job that measures what all ask for.
    """
    same: dict[str, list[Cell]] = {}
    for cell in suite.cells:
        same.setdefault(keys.of(cell), []).append(cell)
    return [_job(key, cells, keys, records.get(key), force) for key, cells in same.items()]


def _job(key: str, cells: list[Cell], keys: Keys, record: Record | None, force: bool) -> Job:
    asked = tuple(dict.fromkeys(wanted for cell in cells for wanted in cell.metrics))
    cell = cells[0] if len(cells) == 1 else replace(cells[0], metrics=asked)
    stored = [wanted for wanted in asked if is_stored(wanted.metric)]
    stages = {_stage(wanted.metric) for wanted in stored} | {RESULT}
    if record is not None and record.status == "ok" and not force:
        have = {(m.metric, m.where, m.source) for m in record.measurements}
        stages = {
            _stage(w.metric)
            for w in stored
            if (w.metric.label(), w.where, keys.source(w.metric)) not in have
        }
    else:
        record = None
    ordered = tuple(stage for stage in (RESULT, AUDIT) if stage in stages)
    return Job(cell, tuple(cells), key, ordered, record)


def _stage(metric: Any) -> str:
    return metric.stage if isinstance(metric, Probe) else RESULT


class Schedule:
    """Runs jobs, `width` at a time, and stores one record for each."""

    def __init__(
        self,
        runner: Runner,
        store: Store,
        session: int,
        keys: Keys,
        observer: Observer,
        stored: Callable[[Record], Iterable[str]],
        width: int = 1,
        timeout: float = 3600.0,
    ) -> None:
        self._runner, self._store, self._session, self._keys = runner, store, session, keys
        self._observer, self._stored, self._width, self._timeout = observer, stored, width, timeout
        self._running: dict[str, Job] = {}
        self._warned: set[str] = set()

    def run(self, jobs: Sequence[Job]) -> None:
        """Run every job that has stages; on an interrupt store the running ones as interrupted."""
        todo = [job for job in jobs if job.stages]
        if todo:
            self._answer({"ready": True}, "")  # the first cell's time has no start-up in it
        unfit = self._prepared(todo)
        queue: deque[Job] = deque()
        for job in todo:
            reason = next((unfit[t] for t in _tasks(job) if t in unfit), None)
            if reason is None:
                queue.append(job)
            else:
                _begin(job)
                self._finish(job, {"status": "skipped", "reason": reason})
        try:
            while queue or self._running:
                while queue and len(self._running) < self._width:
                    self._next_pass(queue.popleft())
                for handle, answer in self._runner.wait(1.0):
                    self._heard(handle, answer, queue)
        except KeyboardInterrupt:
            for job in self._running.values():
                self._finish(job, {"status": "interrupted", "reason": "interrupted by the user"})
            raise

    def _prepared(self, jobs: Sequence[Job]) -> dict[Task, str]:
        """Let every task fetch its data, once; return the reason of each that can't."""
        unfit = {}
        for task in dict.fromkeys(task for job in jobs for task in _tasks(job)):
            if type(task).prepare is Task.prepare:
                continue
            answer = self._answer({"prepare": task.config()}, task.name)
            if answer["status"] == "skipped":
                unfit[task] = answer["reason"]
        return unfit

    def _answer(self, request: dict[str, Any], who: str) -> dict[str, Any]:
        self._runner.start(request, PREPARE_SECONDS)
        while True:
            for handle, answer in self._runner.wait(1.0):
                for news in _taken(handle):
                    self._observer.preparing(who, news.get("text", ""))
                if answer is not None:
                    return answer

    def _next_pass(self, job: Job) -> None:
        if not job.answers:
            _begin(job)
        job.stage = next(stage for stage in job.stages if stage not in job.answers)
        request = {"cell": job.cell.request(), "stage": job.stage, "threads": self._keys.threads}
        self._observer.started(job)
        self._running[job.key] = job
        job.handle = self._runner.start(request, self._timeout)

    def _heard(self, handle: Any, answer: dict[str, Any] | None, queue: deque[Job]) -> None:
        job = next(job for job in self._running.values() if job.handle is handle)
        for news in _taken(handle):
            self._observer.news(job, news)
        if answer is None:
            return
        del self._running[job.key]
        for problem in answer.get("problems", ()):
            self._warn(problem)
        job.answers[job.stage] = answer
        if answer["status"] == "ok" and len(job.answers) < len(job.stages):
            queue.appendleft(job)
            return
        self._finish(job, answer)

    def _finish(self, job: Job, last: Mapping[str, Any]) -> None:
        record = self._record(job, last)
        self._store.add(record)
        for problem in self._stored(record):
            self._warn(problem)
        self._observer.ended(job, record)

    def _record(self, job: Job, last: Mapping[str, Any]) -> Record:
        """Merge the passes, and what an earlier record of this key measured, into one record."""
        source = {w.metric.label(): self._keys.source(w.metric) for w in job.cell.metrics}
        new = [
            Measurement(**m | {"session": self._session, "source": source[m["metric"]]})
            for answer in job.answers.values()
            for m in answer["measurements"]
        ]
        taken = {(m.metric, m.where) for m in new}
        kept = [
            m
            for m in (job.record.measurements if job.record else ())
            if (m.metric, m.where) not in taken
        ]
        events = [
            event | ({"session": self._session} if event["name"] == "contention" else {})
            for stage, answer in job.answers.items()
            for event in answer["events"]
            if _tells(event, stage, RESULT in job.answers or job.record is not None)
        ]
        if job.record:  # what happened when it was timed still holds of the times that are kept
            timed = {m.session or job.record.session for m in kept}
            events = [
                *(e for e in job.record.events if _holds(e, timed, RESULT in job.answers)),
                *events,
            ]
        status, reason = last["status"], last["reason"]
        if status == "ok":
            status, reason = _complete(job, new)
        elif job.stage == AUDIT:
            reason = f"audit pass: {reason}"
        return Record(
            key=job.key,
            cell=job.cell.id,
            session=self._session,
            status=status,
            reason=reason,
            started=job.started,
            seconds=time.monotonic() - job.begun,
            config=job.cell.config(),
            measurements=[*kept, *new],
            events=events,
            log=last.get("log", ""),
        )

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            self._observer.warning(text)


def _holds(event: Mapping[str, Any], timed: set[int], again: bool) -> bool:
    """Whether an earlier event belongs in a merged record whose result pass ran `again`."""
    return event.get("session") in timed if event["name"] == "contention" else not again


def _tells(event: Mapping[str, Any], stage: str, told: bool) -> bool:
    """Whether a pass's event belongs in the record: an audit repeats what a result pass `told`."""
    return stage == RESULT or not told or event["name"] in ("contention", "warning")


def _begin(job: Job) -> None:
    job.started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    job.begun = time.monotonic()


def _complete(job: Job, measured: Sequence[Measurement]) -> tuple[str, str]:
    """Return `ok`, or an error if a pass ended without measuring what it was asked for."""
    have = {(m.metric, m.where) for m in measured}
    missing = [
        wanted.label()
        for wanted in job.cell.metrics
        if is_stored(wanted.metric)
        and _stage(wanted.metric) in job.answers
        and (wanted.metric.label(), wanted.where) not in have
    ]
    if not missing:
        return "ok", ""
    return "error", f"workload '{job.cell.workload.name}' ended without {', '.join(missing)}"


def _tasks(job: Job) -> Iterator[Task]:
    return (part for part in job.cell.workload.parts() if isinstance(part, Task))


def _taken(handle: Any) -> list[Mapping[str, Any]]:
    news, handle.news = handle.news, []
    return list(news)
