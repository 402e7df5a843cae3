"""Stream: a covariance sketch beside the exact covariance of rows of a planted spectrum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Literal, Self

import torch
from pydantic import model_validator

from sketchbench import Approximation, CovarianceEstimate, CovarianceSketch, Field, Run, Workload
from sketchbench.linalg import symmetric_power

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Estimated:
    """Outcome: the exact C (d, d) of a stream, in float64, and what a sketch says of it.

    `dense` (d, d) is the sketch's, `tail` what of it is a multiple of I. `rank` is the directions
    that the sketch keeps, None where its recipe has no such field; `decay` is β₂; `whole` says
    that the sketch was given every row of C.
    """

    exact: Tensor
    dense: Tensor
    tail: float
    rank: int | None
    decay: float
    whole: bool

    @cached_property
    def spectrum(self) -> Tensor:
        """Eigenvalues of C (d,), descending."""
        values: Tensor = torch.linalg.eigvalsh(self.exact)
        return values.flip(0)

    @cached_property
    def excess(self) -> Tensor:
        """Eigenvalues of `dense` − C (d,), ascending: all from 0 to `tail` inside the sandwich.

        NaN where the sketch isn't finite.
        """
        difference = self.dense.double() - self.exact
        if not difference.isfinite().all():
            return torch.full_like(self.spectrum, math.nan)
        values: Tensor = torch.linalg.eigvalsh(difference)
        return values


class Stream(Workload):
    """Feed rows of a known distribution to a sketch, and compare with the exact covariance.

    Rows are normal with mean 0; the eigenvalues of their covariance, along random axes, are

        power        i^−`exponent`           exponential  10^(−(i − 1)/4)
        low-rank     1, and `noise` behind the first `planted`      flat  1

    With `drift` the first `planted` axes turn, each by so many radians an update, towards the
    `planted` after them. C = Σ aaᵀ decays by the recipe's β₂ at each update. With `observe_every`
    n the sketch sees only each n-th block of rows, or the mean of the last n, row by row; it then
    decays n times less often than C, as in practice.

    Outcome `stream`: against C of all rows; `observed`: against C of the rows given, weighted and
    decayed as they were; `direction`: (C + ridge)^−½ x of both for new rows x. All are delivered at
    `checkpoints`. Regions: `step` is one update of the sketch, `apply` one power, at a checkpoint.
    """

    name = "stream"
    regions = ("step", "apply")
    outcomes = {"stream": Estimated, "observed": Estimated, "direction": Approximation}

    sketch: CovarianceSketch = Field(description="The sketch under test.")
    size: int = Field(128, ge=2, description="d, the length of a row.")
    rounds: int = Field(200, ge=1, description="Blocks of rows; each is an update of C.")
    rows: int = Field(1, ge=1, description="Rows a block.")
    spectrum: Literal["power", "low-rank", "flat", "exponential"] = Field(
        "power", description="Eigenvalues of the rows' covariance."
    )
    exponent: float = Field(1.0, gt=0, description="p of the spectrum `power`, i^−p.")
    planted: int = Field(
        8, ge=1, description="Large eigenvalues of `low-rank`; axes that turn with `drift`."
    )
    noise: float = Field(1e-2, ge=0, description="The small eigenvalues of `low-rank`.")
    drift: float = Field(0.0, ge=0, description="Radians that the leading axes turn an update.")
    observe_every: int = Field(1, ge=1, description="n: blocks of rows an update of the sketch.")
    observe: Literal["last", "mean"] = Field(
        "last", description="What stands for n blocks: the last one, or their mean."
    )
    weighted: bool = Field(
        True, description="Weigh it so that the sum of n blocks' covariances is right on average."
    )
    ridge: float = Field(
        1e-6, ge=0, description="Ridge of the powers, as a fraction of the largest eigenvalue of C."
    )
    columns: int = Field(8, ge=1, description="New rows whose directions are compared.")
    checkpoints: int = Field(8, ge=1, description="Evenly spaced comparisons, the last at the end.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.planted > self.size:
            raise ValueError(f"planted {self.planted} is more than size {self.size}")
        if self.drift and 2 * self.planted > self.size:
            raise ValueError(
                f"drift turns {self.planted} planted axes into as many others; size {self.size} "
                f"has too few: take at least {2 * self.planted}"
            )
        if self.rounds % self.observe_every:
            raise ValueError(
                f"rounds {self.rounds} is no multiple of observe_every {self.observe_every}: "
                "the last rows would never be observed"
            )
        if self.checkpoints > self.rounds // self.observe_every:
            raise ValueError(
                f"checkpoints {self.checkpoints} are more than the "
                f"{self.rounds // self.observe_every} updates"
            )
        return self

    def run(self, run: Run) -> None:
        """Stream; deliver the outcomes at each checkpoint."""
        estimate = self.sketch.build(self.size, run.device)
        rng, fresh, axes = run.rng("rows"), run.rng("probe"), self._axes(run.rng("axes"))
        every = self.observe_every
        updates = self.rounds // every
        comparing = {round(updates * i / self.checkpoints) for i in range(1, self.checkpoints + 1)}
        exact = torch.zeros(self.size, self.size, dtype=torch.float64, device=run.device)
        observed, beta2 = exact.clone(), self.sketch.decay
        for update in range(1, updates + 1):
            blocks = []
            for step in range((update - 1) * every, update * every):
                block = self._rows(axes, step, self.rows, rng).to(run.device)
                exact = beta2 * exact + _gram(block)
                blocks.append(block)
            given = self._given(blocks)
            observed = beta2 * observed + _gram(given)
            run.watch(inputs=given)
            with run.region("step"):
                estimate.update(given)
            if update in comparing:
                step = update * every
                x = self._rows(axes, step - 1, self.columns, fresh).to(run.device).mT.contiguous()
                self._compare(run, estimate, exact, observed, x, step)

    def _compare(
        self,
        run: Run,
        estimate: CovarianceEstimate,
        exact: Tensor,
        observed: Tensor,
        x: Tensor,
        step: int,
    ) -> None:
        """Deliver every outcome after `step` blocks, with the powers of x (d, columns)."""
        ridge = self.ridge * float(torch.linalg.matrix_norm(exact, 2))
        with run.region("apply"):
            power = estimate.power(x, -0.5, ridge)
        for name, matrix in (("stream", exact), ("observed", observed)):
            run.deliver(name, partial(self._estimated, estimate, matrix, name), at=step)
        truth = partial(symmetric_power, exact, -0.5, ridge)
        run.deliver("direction", lambda: Approximation(truth() @ x.double(), power), at=step)

    def _estimated(self, estimate: CovarianceEstimate, exact: Tensor, name: str) -> Estimated:
        rank = getattr(self.sketch, "rank", None)
        return Estimated(
            exact,
            estimate.dense(),
            float(estimate.tail),
            rank if isinstance(rank, int) else None,
            self.sketch.decay,
            whole=name == "observed" or self.observe_every == 1,
        )

    def _given(self, blocks: list[Tensor]) -> Tensor:
        """Return what the sketch sees (rows, d) of n blocks.

        Weights make the expectation of its covariance that of the blocks' sum: √n for the last
        block, and n for the mean, of which a covariance is 1/n of a block's.
        """
        count = len(blocks)
        if self.observe == "last" or count == 1:
            return blocks[-1] * math.sqrt(count) if self.weighted else blocks[-1]
        total = torch.stack(blocks).sum(0)
        return total if self.weighted else total / count

    def _values(self) -> Tensor:
        """Return the eigenvalues (d,) of the rows' covariance, in double precision."""
        index = torch.arange(1, self.size + 1, dtype=torch.double)
        match self.spectrum:
            case "power":
                return index**-self.exponent
            case "exponential":
                return ((1 - index) / 4 * math.log(10)).exp()
            case "low-rank":
                return torch.where(index <= self.planted, 1.0, self.noise).double()
            case "flat":
                return torch.ones_like(index)

    def _axes(self, rng: Generator) -> Tensor:
        """Return random orthonormal axes (d, d), a column each, on the CPU."""
        drawn = torch.randn(self.size, self.size, generator=rng, dtype=torch.double)
        axes: Tensor = torch.linalg.qr(drawn)[0]
        return axes

    def _turned(self, axes: Tensor, step: int) -> Tensor:
        """Return the axes (d, d) at `step` (from 0)."""
        if not self.drift:
            return axes
        first, second = axes[:, : self.planted], axes[:, self.planted : 2 * self.planted]
        cos, sin = math.cos(self.drift * step), math.sin(self.drift * step)
        rest = axes[:, 2 * self.planted :]
        return torch.cat([cos * first + sin * second, cos * second - sin * first, rest], dim=1)

    def _rows(self, axes: Tensor, step: int, count: int, rng: Generator) -> Tensor:
        """Draw rows (count, d) of the distribution at `step`, on the CPU in float32."""
        drawn = torch.randn(count, self.size, generator=rng, dtype=torch.double)
        return ((drawn * self._values().sqrt()) @ self._turned(axes, step).mT).float()


def _gram(rows: Tensor) -> Tensor:
    """Return Σ aaᵀ (d, d) over rows (m, d), in double precision."""
    rows = rows.double()
    return rows.mT @ rows
