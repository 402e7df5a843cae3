"""Optimal control with states that a three-sketch remembers: where the method provably works."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, Protocol

import torch
from torch import Generator, Tensor

from sketchbench import Approximation, Event, Field, Run, Score, Workload
from sketchbench_tri_sketch.heat_equation import (
    Checkpointed,
    Control,
    Forgotten,
    HeatEquation,
    Whole,
)
from sketchbench_tri_sketch.three_sketch import ThreeSketch

SUFFICIENT = 1e-4  # of the predicted decrease, that a step must bring [Armijo 1966]
TRIES = 12


class States(Protocol):
    """What remembers the states of a forward pass for the adjoint."""

    def keep(self, state: Tensor) -> None:
        """Take in the next state (n,)."""

    def backwards(self, controls: Tensor) -> Iterator[Tensor]:
        """Yield the states from the last to the first; `controls` (T, m) led to them."""

    def numbers(self) -> int:
        """Return how many numbers are kept."""


@dataclass(frozen=True)
class Optimum:
    """Outcome: the objective at an iterate, and the bytes of states kept for its gradient."""

    objective: float
    kept: int


class Objective(Score):
    """Objective of the controls found."""

    name = "objective"
    consumes = Optimum
    unit = "1"
    direction = "lower"
    margin = 0.01
    relative = True

    def __call__(self, outcome: Optimum) -> float:
        """Return the objective."""
        return outcome.objective


class KeptBytes(Score):
    """Bytes of states kept between a forward pass and its adjoint, by count."""

    name = "kept_bytes"
    consumes = Optimum
    unit = "B"
    direction = "lower"
    margin = 0.05
    relative = True

    def __call__(self, outcome: Optimum) -> float:
        """Return the bytes."""
        return float(outcome.kept)


class HeatControl(Workload):
    """Control a heat equation by gradient descent; the adjoint reads states from a sketch.

    The three-sketch method's own subject [Muthukumar Kouri Udell 2021], as a positive control:
    rows of the sketched matrix are the states of one trajectory, so nothing mixes samples, and
    the adjoint is known. The equation is `HeatEquation`: tracking and reaction both need every
    state. Steps are found by backtracking [Armijo 1966] on the objective, which a forward pass
    knows exactly whatever is kept; a step that worked is doubled for the next try.

    Outcomes: `optimum`, after each iteration; `first` and `last`, the gradient at the first and
    the last controls beside the exact one; `states`, the last trajectory beside what the adjoint
    was shown. Region `step` is one iteration: forward, adjoint and search.

    Differs from the paper:
    1. Its descent is a trust region with ranks adapted to the gradient's a-posteriori error; here
       the rank is fixed, so that its effect can be seen.
    2. `checkpointed`, an exact rival of about 2n√T numbers, and `forgotten`, a control that takes
       every state for 0, are ours to compare with.
    """

    name = "heat-control"
    outcomes = {
        "optimum": Optimum,
        "first": Approximation,
        "last": Approximation,
        "states": Approximation,
    }

    states: Literal["exact", "checkpointed", "forgotten"] | Annotated[int, Field(ge=1)] = Field(
        4,
        description="What is kept of the states: exact, checkpointed, forgotten, or the rank r of "
        "a three-sketch, with k = 2r + 1 and s = 2k + 1.",
    )
    iterations: int = Field(50, ge=1, description="Steps of gradient descent.")
    points: int = Field(128, ge=2, description="n, grid points inside the interval.")
    steps: int = Field(256, ge=2, description="T, time steps.")
    control: Control = Field("distributed", description="Heat at every point, or at one end.")
    diffusion: float = Field(0.02, gt=0, description="κ.")
    reaction: float = Field(1.0, ge=0, description="c, the strength of −c·y³.")
    alpha: float = Field(1e-3, gt=0, description="α, the price of control.")

    def run(self, run: Run) -> None:
        """Descend; deliver the optimum of each iteration, then gradients and states."""
        equation = HeatEquation(
            self.points,
            self.steps,
            self.diffusion,
            self.reaction,
            self.alpha,
            self.control,
            run.device,
        )
        rng, probe = run.rng("sketch"), run.rng("probe")
        controls, length = equation.start(), 1.0
        run.watch(inputs=equation.wanted)
        run.deliver("first", partial(self._gradients, equation, controls, probe))
        for iteration in range(1, self.iterations + 1):
            with run.region("step"):
                states = self._remember(equation, rng)
                before = equation.objective(controls, states.keep)
                gradient = equation.gradient(controls, states.backwards(controls))
                length, controls = _descended(equation, controls, gradient, before, 2 * length)
            kept = states.numbers() * controls.element_size()
            run.deliver("optimum", partial(_optimum, equation, controls, kept), at=iteration)
            run.deliver("descent", Event("step", {"length": length}), at=iteration)
        run.deliver("last", partial(self._gradients, equation, controls, probe))
        run.deliver("states", partial(self._trajectories, equation, controls, probe))

    def _remember(self, equation: HeatEquation, rng: Generator) -> States:
        if isinstance(self.states, int):
            return _Sketched(equation, 2 * self.states + 1, rng)
        return WITHOUT_A_SKETCH[self.states](equation)

    def _gradients(self, equation: HeatEquation, controls: Tensor, rng: Generator) -> Approximation:
        found = []
        for states in (Whole(equation), self._remember(equation, rng)):
            equation.objective(controls, states.keep)
            found.append(equation.gradient(controls, states.backwards(controls)))
        return Approximation(*found)

    def _trajectories(
        self, equation: HeatEquation, controls: Tensor, rng: Generator
    ) -> Approximation:
        found = []
        for states in (Whole(equation), self._remember(equation, rng)):
            equation.objective(controls, states.keep)
            found.append(torch.stack(list(states.backwards(controls))).flip(0))
        return Approximation(*found)


WITHOUT_A_SKETCH = {"exact": Whole, "checkpointed": Checkpointed, "forgotten": Forgotten}


class _Sketched:
    def __init__(self, equation: HeatEquation, size: int, rng: Generator) -> None:
        self._sketch = ThreeSketch(equation.steps, equation.points, size, rng, equation.wanted)
        self.keep, self.numbers = self._sketch.keep, self._sketch.numbers

    def backwards(self, controls: Tensor) -> Iterator[Tensor]:
        return self._sketch.backwards()


def _optimum(equation: HeatEquation, controls: Tensor, kept: int) -> Optimum:
    return Optimum(equation.objective(controls, lambda state: None).item(), kept)


def _descended(
    equation: HeatEquation, controls: Tensor, gradient: Tensor, before: Tensor, length: float
) -> tuple[float, Tensor]:
    """Return the step's length and the new controls; halves the step until it is long enough.

    Where none of the twelve tries is, the controls stay, and so does the length that the next
    search doubles: the gradient is no direction of descent.
    """
    slope = equation.inner(gradient, gradient)
    for tried in (length / 2**halvings for halvings in range(TRIES)):
        found = controls - tried * gradient
        if equation.objective(found, lambda state: None) <= before - SUFFICIENT * tried * slope:
            return tried, found
    return length / 2, controls
