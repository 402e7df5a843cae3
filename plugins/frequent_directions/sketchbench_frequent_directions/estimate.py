"""A running Frequent Directions sketch of a stream of rows, with a buffer before it."""

from __future__ import annotations

import torch
from torch import Tensor

from sketchbench.measure import category
from sketchbench_frequent_directions.powers import power
from sketchbench_frequent_directions.sketch import (
    Sketch,
    absorb,
    empty,
    merged,
    transient_elements,
)
from sketchbench_frequent_directions.solvers.table import SOLVERS, SolverName

WHERE = "frequent-directions"


class FrequentDirectionsEstimate:
    """The sketch of C, and the rows that it hasn't absorbed yet; reading it absorbs them.

    Every call of `update` decays C once, rows in the buffer included. Float64 rows make a float64
    sketch of it.
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

    def transient_bytes(self, rows: int) -> int:
        """Return about the bytes that absorbing so many rows (m, d) works in.

        d(k + m) + min(d, k + m)² numbers, of 8 bytes where the solver works in float64.
        """
        size, rank = self._sketch.vectors.shape
        return 8 * transient_elements(size, rank, rows)

    def update(self, rows: Tensor) -> None:
        """Make of C β₂C + Σaaᵀ over the rows a (m, d); raises ValueError before it changes any.

        They wait in the buffer as long as they fit, older ones ageing by √β₂ an update; when it is
        full, or where they don't fit, all are absorbed at once.
        """
        rows = self._checked(rows)
        waiting = self._rows[: self._filled]
        waiting.mul_(self._beta2**0.5)
        self._absent += 1
        filled = self._filled + len(rows)
        if filled > len(self._rows):
            self._absorb(rows)
            return
        self._rows[self._filled : filled] = rows
        self._filled = filled
        if filled == len(self._rows):
            self._absorb(self._rows[:0])

    def merge(self, other: FrequentDirectionsEstimate) -> None:
        """Make of C the sum with another stream's, of the same size; both bounds stay."""
        size, theirs = self._sketch.vectors.shape[0], other._sketch.vectors.shape[0]
        if size != theirs:
            raise ValueError(f"{WHERE}: sketches of sizes {size} and {theirs} can't be merged")
        mine, second = self.sketch, other.sketch
        dtype = torch.promote_types(mine.vectors.dtype, second.vectors.dtype)
        self._promote(dtype)
        second = Sketch(*(part.to(self._sketch.vectors) for part in second))
        self._keep(merged(self._sketch, second, self._solver))

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

    def _absorb(self, rows: Tensor) -> None:
        """Absorb what waits and the rows (m, d), and decay by the updates that it hasn't seen."""
        if not self._absent:
            return
        waiting = torch.cat([self._rows[: self._filled], rows])
        self._keep(
            absorb(
                self._sketch,
                waiting.mT,
                beta2=self._beta2**self._absent,
                tail_decay=self._tail_decay**self._absent,
                solver=self._solver,
            )
        )
        self._absent = self._filled = 0

    def _keep(self, sketch: Sketch) -> None:
        """Copy into the tensors that are there, so that a sketch stays where it was made."""
        for kept, new in zip(self._sketch, sketch, strict=True):
            kept.copy_(new)

    def _checked(self, rows: Tensor) -> Tensor:
        """Return the rows in the sketch's precision, which float64 rows raise."""
        size = self._sketch.vectors.shape[0]
        if rows.ndim != 2 or rows.shape[1] != size or not rows.is_floating_point():
            got = f"{rows.dtype} {tuple(rows.shape)}"
            raise ValueError(f"{WHERE}: expected real rows (m, {size}); got {got}")
        if not rows.isfinite().all():
            broken = int((~rows.isfinite().all(1)).sum())
            raise ValueError(
                f"{WHERE}: {broken} of {len(rows)} rows aren't finite; none is absorbed"
            )
        self._promote(torch.promote_types(rows.dtype, self._sketch.vectors.dtype))
        return rows.detach().to(self._sketch.vectors.dtype)

    def _promote(self, dtype: torch.dtype) -> None:
        if dtype == self._sketch.vectors.dtype:
            return
        with category("sketch"):
            self._sketch = Sketch(*(part.to(dtype) for part in self._sketch))
            self._rows = self._rows.to(dtype)
