"""What methods that keep a sketch of their gradients have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sketchbench import Field
from sketchbench_frequent_directions.online.preconditioner import Preconditioner, seen
from sketchbench_frequent_directions.online.rows import absorb_row
from sketchbench_frequent_directions.online.vectors import OnlineOptimizer, OnlineRecipe
from sketchbench_frequent_directions.sketch import Sketch, absorb, empty
from sketchbench_frequent_directions.solvers.table import SOLVERS, SolverName


class SketchedRecipe(OnlineRecipe):
    """The sketch's own parameters."""

    rank: int = Field(10, ge=1, description="k, directions kept; ℓ = k + 1 in the paper.")
    solver: SolverName = Field("svd", description="How the leading directions are found.")

    def kept(self, size: int) -> Mapping[str, int]:
        """The sketch: (d + 1)·k + 1."""
        kept = min(self.rank, size)
        return {"sketch": (size + 1) * kept + 1}

    def break_even(self, shape: tuple[int, ...]) -> int:
        """0: of a parameter taken for one vector, any direction is as large as Adam's moment."""
        return 0


class SketchedOptimizer(OnlineOptimizer):
    """Frequent Directions of the gradients as rows; subclasses say what H is made of them."""

    state_parts: Mapping[str, str] = dict.fromkeys(Sketch._fields, "sketch")

    @abstractmethod
    def spectrum(
        self, roots: Tensor, tail: Tensor, group: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor]:
        """Return H's eigenvalues (k,) along the sketch's directions, and beside them ()."""

    def scale(self, step: int) -> float:
        """Return the factor of the gradient of `step` in the sketch."""
        return 1.0

    def increment(
        self, state: dict[str, Tensor], gradient: Tensor, step: int, group: Mapping[str, Any]
    ) -> Tensor | None:
        """Return what the sketch is to take in at `step`, (d,), or None."""
        scale = self.scale(step)
        return gradient if scale == 1 else gradient * scale

    def begin(self, like: Tensor, group: Mapping[str, Any]) -> dict[str, Tensor]:
        """Return the sketch of nothing."""
        return empty(len(like), group["rank"], device=like.device, dtype=like.dtype)._asdict()

    def advance(
        self, state: dict[str, Tensor], gradient: Tensor, step: int, group: Mapping[str, Any]
    ) -> Preconditioner:
        """Sketch the gradient, where its time has come, and return H."""
        sketch = Sketch(*(state[key] for key in Sketch._fields))
        row = self.increment(state, gradient, step, group)
        if row is not None:
            beta2, tail_decay = group.get("beta2", 1.0), group.get("tail_decay", 1.0)
            if group["solver"] == "svd":
                sketch = absorb_row(sketch, row, beta2, tail_decay)
            else:
                sketch = absorb(
                    sketch,
                    row.unsqueeze(-1),
                    beta2=beta2,
                    tail_decay=tail_decay,
                    solver=SOLVERS[group["solver"]],
                )
            state.update(sketch._asdict())
        roots = seen(sketch.roots.square(), len(gradient)).sqrt()  # the sketch keeps all
        return Preconditioner(sketch.vectors, *self.spectrum(roots, sketch.tail, group))
