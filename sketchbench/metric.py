"""Metrics: probes read a meter, scores judge an outcome, the derived are computed from others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from sketchbench.protocols import Measured, Meter
from sketchbench.recipe import Recipe


class Metric(Recipe):
    """One number with unit, direction and margin; subclass `Probe`, `Score` or `Derived`.

    `margin` is the smallest difference that matters: in the metric's unit, or, where `relative`,
    as a fraction of the baseline's value (differences are then shown as ratios).
    """

    kind = "metric"
    unit: ClassVar[str]
    direction: ClassVar[Literal["lower", "higher"]]
    margin: ClassVar[float]
    relative: ClassVar[bool] = False


class Probe(Metric):
    """Measures a resource over a region (time, memory) by reading a meter.

    `breakdown` says that the parts add up to the value: reports then show them in columns.
    """

    regions: ClassVar[tuple[str, ...]] = ("step",)
    stage: ClassVar[Literal["result", "audit"]] = "result"
    breakdown: ClassVar[bool] = False
    meter: ClassVar[type[Meter]]

    @abstractmethod
    def sample(self, reading: Any) -> float:
        """Return one occurrence's value from the meter's reading."""

    @abstractmethod
    def summarise(self, readings: Sequence[Any]) -> Mapping[str, float]:
        """Return `value` and named parts from the readings of all counted occurrences.

        Raises `Missing` where it can't be had on this machine.
        """


class Score(Metric):
    """Judges an outcome; a pure function."""

    consumes: ClassVar[type]

    @abstractmethod
    def __call__(self, outcome: Any) -> float:
        """Return the outcome's value; raise `Missing` with a reason where it has none."""


class Derived(Metric):
    """Computed from other measurements when records are read; never stored."""

    scope: ClassVar[Literal["cell", "group"]] = "cell"

    @property
    @abstractmethod
    def needs(self) -> tuple[str, ...]:
        """The metrics that it is computed from."""

    @abstractmethod
    def derive(
        self, cell: Measured, baseline: Measured | None = None, control: Measured | None = None
    ) -> float | None:
        """Return the value, or None where it is undefined (a target never reached).

        Raises `Missing` with a reason where what it needs could not be had.
        """


class Quotient(Derived):
    """A derived metric that is a quotient of two differences or sums, paired over seeds.

    A cell has `numerator / denominator`; a method has the quotient of their means over seeds, with
    Fieller's interval, and nothing where the denominator's interval holds 0: an average of
    quotients would be as wild as the smallest denominator.
    """

    scope: ClassVar[Literal["cell", "group"]] = "group"

    @abstractmethod
    def terms(
        self, cell: Measured, baseline: Measured | None, control: Measured | None
    ) -> tuple[float, float] | None:
        """Return numerator and denominator of one cell, or None where they can't be told.

        Raises `Missing` with a reason where what they need could not be had.
        """

    def derive(
        self, cell: Measured, baseline: Measured | None = None, control: Measured | None = None
    ) -> float | None:
        """Return the cell's quotient, or None where its denominator is 0."""
        terms = self.terms(cell, baseline, control)
        return terms[0] / terms[1] if terms and terms[1] else None
