"""A running Frequent Directions sketch of a stream of rows, with a buffer before it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sketchbench.measure import category
from sketchbench_frequent_directions.powers import power
from sketchbench_frequent_directions.sketch import (
    Sketch,
    absorb,
    empty,
    merged,
)
from sketchbench_frequent_directions.solvers.table import SOLVERS, SolverName

WHERE = "frequent-directions"


class FrequentDirectionsEstimate:
    """The sketch of C, and the rows that it hasn't absorbed yet; reading it absorbs them.

    Every call of `update` decays C once, rows in the buffer included. Float64 rows make a float64
    sketch of it. What can't be absorbed (rows, a sum that overflows, a decomposition that fails)
    raises, and leaves the estimate as it was.
    """

    def __init__(
        self,
        size: int,
        rank: int,
        *,
        beta2: float,
        tail_decay: float,
        solver: SolverName,
        buffer: int,
        device: torch.device,
    ) -> None:
        self._beta2, self._tail_decay = beta2, tail_decay
        self._solver = SOLVERS[solver]
        self._absent = 0  # updates since the sketch last absorbed: decays that it hasn't seen
        self._filled = 0  # rows in the buffer
        self._mass = 0.0  # Σ of squares of all rows, decayed as the tail: above λ₁ and the tail
        with category("sketch"):
            self._sketch = empty(size, rank, device=device)
            self._rows = torch.zeros(buffer if buffer > 1 else 0, size, device=device)

    @property
    def sketch(self) -> Sketch:
        """The tensors U (d, k), σ (k) and tail () of everything seen so far."""
        self._absorb(self._rows[:0])
        return self._sketch

    @property
    def tail(self) -> Tensor:
        """ρ, the mass that escaped: what is on the whole diagonal of `dense()`."""
        return self.sketch.tail.clone()

    @property
    def bytes(self) -> int:
        """Bytes that live from update to update: d·k + k + 1 numbers, and the buffer's rows."""
        return sum(tensor.untyped_storage().nbytes() for tensor in (*self._sketch, self._rows))

    def update(self, rows: Tensor) -> None:
        """Make of C β₂C + Σaaᵀ over the rows a (m, d); raises ValueError before it changes any.

        They wait in the buffer as long as they fit, older ones ageing by √β₂ an update; when it is
        full, or where they don't fit, all are absorbed at once.
        """
        rows, mass = self._checked(rows)
        filled = self._filled + len(rows)
        if filled >= len(self._rows):
            self._absorb(rows, updates=1)
        else:
            self._rows[: self._filled].mul_(self._beta2**0.5)
            self._rows[self._filled : filled] = rows
            self._filled = filled
            self._absent += 1
        self._mass = mass

    def merge(self, other: FrequentDirectionsEstimate) -> None:
        """Make of C the sum with another stream's, of the same size and decay; both bounds stay."""
        size, theirs = self._sketch.vectors.shape[0], other._sketch.vectors.shape[0]
        if size != theirs:
            raise ValueError(f"{WHERE}: sketches of sizes {size} and {theirs} can't be merged")
        for name, decay, second in (
            ("beta2", self._beta2, other._beta2),
            ("decay of the tail", self._tail_decay, other._tail_decay),
        ):
            if decay != second:
                raise ValueError(
                    f"{WHERE}: sketches of {name} {decay:g} and {second:g} can't be merged"
                )
        mine, added = self.sketch, other.sketch
        dtype = torch.promote_types(mine.vectors.dtype, added.vectors.dtype)
        mass = _within(self._mass + other._mass, dtype)
        self._promote(dtype)
        added = Sketch(*(part.to(self._sketch.vectors) for part in added))
        self._keep(merged(self._sketch, added, self._solver))
        self._mass = mass

    def dense(self) -> Tensor:
        """Return UΣ²Uᵀ + tail·I (d, d)."""
        sketch = self.sketch
        scaled = sketch.vectors * sketch.roots
        dense = scaled @ scaled.mT
        dense.diagonal().add_(sketch.tail)
        return dense

    def power(self, x: Tensor, exponent: float, ridge: float) -> Tensor:
        """Return (UΣ²Uᵀ + (tail + ridge)·I)^exponent x for x (d, n), without any d × d."""
        return power(self.sketch, x, exponent, ridge)

    def _absorb(self, rows: Tensor, updates: int = 0) -> None:
        """Absorb what waits and the rows (m, d) of so many updates more; decay by all updates."""
        absent = self._absent + updates
        if not absent:
            return
        stacked = torch.cat([self._rows[: self._filled], rows])
        stacked[: self._filled].mul_(self._beta2 ** (updates / 2))
        self._keep(
            absorb(
                self._sketch,
                stacked.mT,
                beta2=self._beta2**absent,
                tail_decay=self._tail_decay**absent,
                solver=self._solver,
            )
        )
        self._absent = self._filled = 0

    def _keep(self, sketch: Sketch) -> None:
        """Copy into the tensors that are there, so that a sketch stays where it was made."""
        for kept, new in zip(self._sketch, sketch, strict=True):
            kept.copy_(new)

    def _checked(self, rows: Tensor) -> tuple[Tensor, float]:
        """Return the rows in the sketch's precision, which float64 raises, and the mass then."""
        size = self._sketch.vectors.shape[0]
        if rows.ndim != 2 or rows.shape[1] != size or not rows.is_floating_point():
            got = f"{rows.dtype} {tuple(rows.shape)}"
            raise ValueError(f"{WHERE}: expected real rows (m, {size}); got {got}")
        dtype = torch.promote_types(rows.dtype, self._sketch.vectors.dtype)
        rows = rows.detach().to(dtype)
        norm = float(torch.linalg.vector_norm(rows))
        if not math.isfinite(norm) and not rows.isfinite().all():
            broken = int((~rows.isfinite().all(1)).sum())
            raise ValueError(
                f"{WHERE}: {broken} of {len(rows)} rows aren't finite; none is absorbed"
            )
        mass = _within(self._tail_decay * self._mass + norm * norm, dtype)
        self._promote(dtype)
        return rows, mass

    def _promote(self, dtype: torch.dtype) -> None:
        if dtype == self._sketch.vectors.dtype:
            return
        with category("sketch"):
            self._sketch = Sketch(*(part.to(dtype) for part in self._sketch))
            self._rows = self._rows.to(dtype)


def _within(mass: float, dtype: torch.dtype) -> float:
    """Return a sum of squares with which the estimate stays finite; raise where it may not.

    `dense()` has λ₁ + tail at most, the tail may be twice what an exact solver's is, and rounding
    comes on top: 8 is enough for all of them.
    """
    if mass <= torch.finfo(dtype).max / 8:
        return mass
    raise ValueError(
        f"{WHERE}: squares of rows add up to {mass:.3g}, beyond {str(dtype)[6:]}; none is "
        "absorbed: scale them down, or let C decay (beta2)"
    )
