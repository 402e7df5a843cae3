"""Readings that draw random numbers: a seed and a step tell them, the same on every device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from sketchbench_tri_sketch.projections import drawn, mixed, seed_from
from sketchbench_tri_sketch.reading import Reading

PURPOSES = 4  # of draws in one step
AFTER = 2**31  # where no step is: the seed's successor


class Drawing(Reading):
    """A reading that draws: its seed and its count of steps are its extra state.

    What it draws is drawn on the CPU and moved, and can be drawn again from the step's number, so
    that no projection need be kept for the backward pass.
    """

    def __init__(self, rng: Generator) -> None:
        super().__init__()
        self.seed = seed_from(rng)
        self.steps = 0  # seen so far

    def turn(self, update: bool) -> int:
        """Return this step's number, from 1; a recomputation has that of the step it repeats."""
        self.steps += update
        return self.steps

    def redraw(self) -> None:
        """Go over to another seed: whatever is drawn from now on is independent of before."""
        self.seed, self.steps = mixed(self.seed, AFTER), 0

    def normal(self, rows: int, columns: int, step: int, like: Tensor, purpose: int = 0) -> Tensor:
        """Return independent N(0, 1) entries, in the type and on the device of `like`."""
        return drawn(self._seed_of(step, purpose), rows, columns, like)

    def uniform(self, rows: int, columns: int, step: int, like: Tensor) -> Tensor:
        """Return independent entries, uniform in [0, 1), in the type and on the device of `like`.

        `like` is float32 at least: what rounds to 1 in a narrower type would be outside.
        """
        rng = Generator().manual_seed(self._seed_of(step, 0))
        return torch.rand(rows, columns, generator=rng).to(like)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the seed and the count of steps."""
        return {"seed": self.seed, "steps": self.steps}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a state that `get_extra_state` returned."""
        self.seed, self.steps = state["seed"], state["steps"]

    def _seed_of(self, step: int, purpose: int) -> int:
        return mixed(self.seed, PURPOSES * step + purpose)


def wide(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which sketches of `dtype` are computed: float32 at least."""
    return torch.promote_types(dtype, torch.float32)
