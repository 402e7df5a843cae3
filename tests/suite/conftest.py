"""A tiny stock of recipes, and readers of suite text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, model_validator

from sketchbench import (
    ActivationSketch,
    Approximation,
    Derived,
    GradientSketch,
    Model,
    Optimizer,
    Predictions,
    Probe,
    Score,
    Task,
    Workload,
)
from sketchbench.recipe import UnknownName, suggest
from sketchbench.suite import Suite, SuiteError


def concrete(cls):
    """Let a recipe without `build` or `run` be made: nothing here runs anything."""
    cls.__abstractmethods__ = frozenset()
    return cls


@concrete
class Digits(Task):
    name = "digits"
    train_limit: int | None = None
    augment: bool = False


@concrete
class Mlp(Model):
    name = "mlp"
    hidden: tuple[int, ...] = (8,)


@concrete
class Adam(Optimizer):
    name = "adam"
    lr: float = Field(1e-3, gt=0)


@concrete
class Sgd(Optimizer):
    name = "sgd"
    lr: float = Field(0.1, gt=0)
    momentum: float = 0.0


@concrete
class Unbiased(ActivationSketch):
    name = "unbiased"
    rank: int = Field(2, ge=1)


@concrete
class Zero(ActivationSketch):
    name = "zero-gradient"
    scope: Literal["all", "dense"] = "dense"


@concrete
class Wrapped(ActivationSketch):
    name = "wrapped"
    inner: ActivationSketch | None = None


@concrete
class Broken(ActivationSketch):
    name = "broken"

    @model_validator(mode="after")
    def _crash(self):
        raise KeyError("a bug of the plugin")


@concrete
class Fixed(GradientSketch):
    name = "fixed"
    out_size: int


@concrete
class Train(Workload):
    name = "train"
    regions = ("step", "build")
    outcomes = {"train": Predictions, "test": Predictions}
    task: Task
    model: Model = Mlp(hidden=(4, 4))
    optimizer: Optimizer
    activation: ActivationSketch | None = None
    epochs: int = Field(1, ge=1)
    batch_size: int = 64
    note: str = ""

    @model_validator(mode="after")
    def _fits(self):
        if self.epochs == 13:
            raise ValueError("13 epochs bring bad luck")
        return self


@concrete
class Distort(Workload):
    name = "distort"
    regions = ("apply",)
    outcomes = {"sketched": Approximation}
    sketch: GradientSketch
    epochs: int = 1


@concrete
class Fit(Workload):
    """Has no test split."""

    name = "fit"
    outcomes = {"first": Predictions, "second": Predictions}


@concrete
class Accuracy(Score):
    name = "accuracy"
    consumes = Predictions
    unit, direction, margin = "fraction", "higher", 0.005
    top: int = Field(1, ge=1)


@concrete
class RelativeError(Score):
    name = "relative_error"
    consumes = Approximation
    unit, direction, margin, relative = "fraction", "lower", 0.05, True


@concrete
class StepTime(Probe):
    name = "step_time"
    regions = ("step", "build")
    unit, direction, margin, relative = "s", "lower", 0.05, True


@concrete
class TimeToTarget(Derived):
    name = "time_to_target"
    unit, direction, margin, relative = "s", "lower", 0.05, True
    metric: str = "accuracy"
    target: float

    @property
    def needs(self):
        return (self.metric,)


class Stock:
    """A lookup over the classes above."""

    def __init__(self, *classes):
        self.classes = {(each.kind, each.name): each for each in classes}

    def lookup(self, kind, name):
        if (kind, name) not in self.classes:
            known = suggest(name, (n for k, n in self.classes if k == kind))
            raise UnknownName(f"unknown {kind} '{name}'; {known}")
        return self.classes[kind, name]


STOCK = Stock(
    *(Digits, Mlp, Adam, Sgd, Unbiased, Zero, Wrapped, Broken, Fixed, Train, Distort, Fit),
    *(Accuracy, RelativeError, StepTime, TimeToTarget),
)
MARK = "¶"


@pytest.fixture(scope="session")
def stock() -> Stock:
    return STOCK


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Suite]:
    """Read a suite from its text."""
    monkeypatch.chdir(tmp_path)

    def read(text: str | bytes, **options) -> Suite:
        path = Path("s.yaml")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return Suite.read(path, STOCK, **options)

    return read


@pytest.fixture
def refused(read: Callable[..., Suite]) -> Callable[..., None]:
    """Check that a text has exactly these mistakes, each where a ¶ stands in the text."""

    def refused(text: str, *expected: str, **options) -> None:
        places = []
        for number, line in enumerate(text.split("\n"), 1):
            for piece in range(line.count(MARK)):
                column = len(MARK.join(line.split(MARK)[: piece + 1]).replace(MARK, "")) + 1
                places.append(f"s.yaml:{number}:{column}: ")
        with pytest.raises(SuiteError) as caught:
            read(text.replace(MARK, ""), **options)
        places += [""] * (len(expected) - len(places))
        assert str(caught.value).split("\n") == [
            place + what for place, what in zip(places, expected, strict=True)
        ]

    return refused


@pytest.fixture(scope="session")
def train() -> Callable[..., str]:
    """Return the text of a suite with one experiment, with more lines for it and for the suite."""

    def train(experiment: str = "", suite: str = "", metrics: str = "[accuracy]") -> str:
        lines = "".join(f"    {line}\n" for line in experiment.strip("\n").split("\n") if line)
        return (
            f"suite: demo\n{suite}experiments:\n  - name: e\n"
            f"    workload: {{use: train, task: digits, optimizer: adam, epochs: 3}}\n"
            f"    metrics: {metrics}\n{lines}"
        )

    return train
