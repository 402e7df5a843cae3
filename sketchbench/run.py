"""The run: all that a workload may ask of the harness while it works."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from sketchbench.kinds import Workload
from sketchbench.measure import Clock
from sketchbench.metric import Derived, Metric, Probe, Score
from sketchbench.outcomes import Event
from sketchbench.protocols import Meter, Missing, Watched
from sketchbench.records import Measurement

if TYPE_CHECKING:
    from types import TracebackType

    import torch
    from torch import Generator, Tensor, nn

WARMUP = 2  # occurrences of a region that are not counted, rounded up to whole periods


class Skip(Exception):
    """This cell can't be measured here, for the reason given; not a failure."""


class Diverged(Exception):
    """A training loss or a score is not finite; the record's status becomes `nan`."""


class Enough(BaseException):
    """An audit has seen whole periods enough of every region; ends the workload's run."""


@dataclass(frozen=True)
class Wanted:
    """One metric of an experiment's list, and where it is read: a region or an outcome."""

    metric: Metric
    where: str

    def label(self) -> str:
        """Return the metric's label, with `@where` unless it is the metric's usual place."""
        usual = {"test"} if isinstance(self.metric, Score) else {"step", ""}
        return self.metric.label() + ("" if self.where in usual else f"@{self.where}")


def places(workload: Workload | type[Workload], metric: Metric) -> tuple[str, ...]:
    """Return the regions or outcomes of `workload` in which `metric` can be read."""
    if isinstance(metric, Probe):
        return tuple(region for region in workload.regions if region in metric.regions)
    if isinstance(metric, Score):
        return tuple(
            name for name, kind in workload.outcomes.items() if issubclass(kind, metric.consumes)
        )
    return ("",)


def generator(seed: int, purpose: str) -> Generator:
    """Return a CPU generator for (seed, purpose), independent of every other one."""
    from torch import Generator

    return Generator().manual_seed(seed_of(seed, purpose))


def seed_of(seed: int, purpose: str) -> int:
    """Return the seed of (seed, purpose), 63 bits of a digest."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


class Run:
    """One pass over a cell: its device, its randomness, its measurements."""

    def __init__(
        self,
        device: torch.device,
        seed: int,
        wanted: Sequence[Wanted] = (),
        stage: Literal["result", "audit"] = "result",
        period: int = 1,
        notify: Callable[[dict[str, Any]], None] = lambda news: None,
        changing: bool = False,
        warmup: int = WARMUP,
    ) -> None:
        self.device = device
        self.seed = seed
        self.stage = stage
        self.events: list[dict[str, Any]] = []
        self.watched = Watched()
        self._changing = changing
        self._notify = notify
        self._warmup = math.ceil(warmup / period) * period
        self._period = period
        self._scores = [w for w in wanted if isinstance(w.metric, Score)]
        self._curves: dict[tuple[str, str], _Curve] = {}
        self._regions: dict[str, Region] = {}
        self._probes = [
            w for w in wanted if isinstance(w.metric, Probe) and w.metric.stage == stage
        ]
        self._audited = {w.where for w in self._probes} if stage == "audit" else set()

    def rng(self, purpose: str) -> Generator:
        """Return a CPU generator of its own for `purpose`, the same on every device."""
        return generator(self.seed, purpose)

    def region(self, name: str) -> Region:
        """Measure the enclosed work with every probe that watches region `name`."""
        found = self._regions.get(name)
        if found is None:
            found = self._regions[name] = self._open(name)
        return found

    def watch(
        self,
        *,
        model: nn.Module | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        inputs: Tensor | Sequence[Tensor] | None = None,
    ) -> None:
        """Name what memory belongs to; meters that account for bytes by owner read it."""
        if model is not None:
            self.watched.model = model
        if optimizer is not None:
            self.watched.optimizer = optimizer
        if inputs is not None:
            self.watched.inputs = tuple(inputs) if isinstance(inputs, list | tuple) else (inputs,)  # type: ignore[assignment]

    def changed(self) -> None:
        """Say that memory may have changed (a rank did): an audit measures the next period too."""
        for region in self._regions.values():
            if self._changing or region.done:  # a period may be longer than an epoch
                region.measure_again(self._period)

    def deliver(self, name: str, outcome: Any, at: float | None = None) -> None:
        """Hand over an outcome, or a function that makes it if a score asks for it.

        `at` is the epoch or step: repeated deliveries are a curve, and the last one, or the one
        without `at`, is the value. It is missing where the outcome is a `Missing`, or the score
        raises one. Raises `Diverged` where a score is not finite.
        """
        if isinstance(outcome, Event):
            for key, value in outcome.details.items():
                if not isinstance(value, (str, int, float, bool, type(None))):
                    raise TypeError(
                        f"event '{outcome.what}': '{key}' is a {type(value).__name__}; events hold "
                        "text, numbers, booleans and null"
                    )
            self.events.append({"name": name, "at": at, "what": outcome.what, **outcome.details})
            return
        scores = [w for w in self._scores if w.where == name] if self.stage == "result" else []
        if not scores:
            return
        values: dict[str, float] = {}
        outcome = outcome() if callable(outcome) else outcome
        for wanted in scores:
            curve = self._curves.setdefault((wanted.metric.label(), name), _Curve(wanted.metric))
            try:
                if isinstance(outcome, Missing):
                    raise outcome
                values[wanted.label()] = float(wanted.metric(outcome))  # type: ignore[operator]
                curve.add(at, values[wanted.label()], self._worked())
            except Missing as reason:
                curve.final, curve.why = math.nan, " ".join(str(reason).split())
        self._notify({"at": at, "values": values})
        bad = [f"{label} is {value}" for label, value in values.items() if not math.isfinite(value)]
        if bad:
            raise Diverged(f"{', '.join(bad)}" + ("" if at is None else f" at {at:g}"))

    def measurements(self) -> list[Measurement]:
        """Return everything measured so far: outcomes as they were delivered, then regions."""
        curves = [curve.measurement(where) for (_, where), curve in self._curves.items()]
        probed = [
            _probed(wanted, self._regions[wanted.where].counted(self._warmup, self._period))
            for wanted in self._probes
            if wanted.where in self._regions and self._regions[wanted.where].readings
        ]
        return curves + probed

    def readings(self, region: str, meter: type[Meter]) -> list[Any]:
        """Return what a meter read of each counted occurrence of a region."""
        found = self._regions.get(region)
        counted = found.counted(self._warmup, self._period) if found else []
        return [reading[meter] for reading in counted if meter in reading]

    def _open(self, name: str) -> Region:
        meters = {w.metric.meter for w in self._probes if w.where == name}  # type: ignore[attr-defined]
        if self.stage == "result":
            meters.add(Clock)
        opened = {kind: kind(self.device, self.watched) for kind in meters}
        if self.stage == "result":
            return Region(opened)
        return Region(opened, self._warmup + self._period, self._seen_enough)

    def _worked(self) -> float:
        """Return the wall seconds of measured work so far: evaluation and logging are outside."""
        return sum(region.wall for region in self._regions.values())

    def _seen_enough(self) -> None:
        if not self._changing and all(
            name in self._regions and self._regions[name].done for name in self._audited
        ):
            raise Enough


class Region:
    """A named stretch of work; entering it opens each meter once, leaving it reads them.

    With `left`, so many occurrences are measured, and the rest aren't until memory changes.
    """

    def __init__(
        self,
        meters: dict[Any, Meter],
        left: float = math.inf,
        measured: Callable[[], None] = lambda: None,
    ) -> None:
        self.readings: list[dict[Any, Any]] = []
        self.wall = 0.0
        self._all = tuple(meters.items())
        self._meters = self._all
        self._left = left if meters else 0
        self._measured = measured

    @property
    def done(self) -> bool:
        """Whether every occurrence that was asked for has been measured."""
        return self._left == 0

    def measure_again(self, period: int) -> None:
        """Measure at least the next `period` occurrences."""
        if self._all:
            self._left = max(self._left, period)
            self._meters = self._all

    def __enter__(self) -> None:
        for _, meter in self._meters:
            meter.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        readings = {name: meter.stop() for name, meter in reversed(self._meters)}
        if error is not None or not self._meters:
            return
        self.readings.append(readings)
        if Clock in readings:
            self.wall += readings[Clock].wall
        self._left -= 1
        if self._left == 0:
            self._meters = ()
        self._measured()

    def counted(self, warmup: int, period: int) -> list[dict[Any, Any]]:
        """Return the readings after the warm-up, in whole periods; all where there are too few."""
        rest = self.readings[warmup:]
        return rest[: len(rest) - len(rest) % period] or rest or self.readings


@dataclass
class _Curve:
    metric: Metric
    at: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    final: float | None = None
    why: str = ""

    def add(self, at: float | None, value: float, seconds: float) -> None:
        self.final, self.why = value, ""
        if at is not None:
            self.at.append(at)
            self.values.append(value)
            self.seconds.append(seconds)

    def measurement(self, where: str) -> Measurement:
        assert self.final is not None
        curve = {"at": self.at, "samples": self.values, "seconds": self.seconds}
        return Measurement.of(self.metric, where, self.final, why=self.why, **curve)


def _probed(wanted: Wanted, counted: list[dict[Any, Any]]) -> Measurement:
    probe = wanted.metric
    assert isinstance(probe, Probe)
    readings = [reading[probe.meter] for reading in counted]
    try:
        summary = {part: float(value) for part, value in probe.summarise(readings).items()}
        samples = [float(probe.sample(reading)) for reading in readings]
    except Missing as reason:
        why = " ".join(str(reason).split())
        return Measurement.of(probe, wanted.where, math.nan, why=why)
    return Measurement.of(
        probe,
        wanted.where,
        summary.pop("value"),
        parts=summary | {"occurrences": float(len(readings))},
        samples=samples,
    )


def is_stored(metric: Metric) -> bool:
    """Whether `metric` is measured and stored, not derived when records are read."""
    return not isinstance(metric, Derived)
