"""Adaptive rank: controllers that raise or lower the rank of all layers after an epoch."""

from __future__ import annotations

import math
import statistics
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator
from torch import Generator, nn

from sketchbench import Event, Field
from sketchbench_tri_sketch.block import Controller, SketchedBlock
from sketchbench_tri_sketch.probe import Probed
from sketchbench_tri_sketch.reading import Reading
from sketchbench_tri_sketch.recipes import RankSketch


class Adaptive(RankSketch):
    """Sketches whose rank may change after an epoch, by one rule for all layers.

    `loss-patience`: up after epochs without an improvement of the loss, down after epochs with
    one. `error`: up where the median layer loses more than a share of its activations, down where
    it loses less than another. [the paper names "patience parameters" and no numbers: all of the
    defaults are our choice; by error: Muthukumar et al. 2021]
    """

    has_error: ClassVar[bool] = True  # Â is near A; the error of an unbiased one is only variance

    adapt: Literal["none", "loss-patience", "error"] = Field(
        "none", description="What changes the rank after an epoch: nothing, the loss, the error."
    )
    rank_min: int = Field(2, ge=1, description="Least rank that adapting goes down to.")
    rank_max: int = Field(16, ge=1, description="Greatest rank that it goes up to.")
    rank_up: int = Field(2, ge=1, description="By how much it goes up.")
    rank_down: int = Field(1, ge=1, description="By how much it goes down.")
    patience_up: int = Field(2, ge=1, description="Epochs in a row without improvement: up.")
    patience_down: int = Field(3, ge=1, description="Epochs in a row with improvement: down.")
    improvement: float = Field(1e-3, ge=0, description="Least fall of the loss that is one.")
    error_high: float = Field(0.5, gt=0, description="Relative error ‖A−Â‖/‖A‖ above which: up.")
    error_low: float = Field(0.1, ge=0, description="Relative error below which: down.")
    error_rows: int = Field(10, ge=1, description="q, rows of the sketch that tells the error.")

    @model_validator(mode="after")
    def _ranks_are_in_order(self) -> Self:
        if self.adapt == "none":
            return self
        if self.adapt == "error" and not self.has_error:
            raise ValueError(
                f"adapt 'error' isn't for '{self.name}': unbiased, it is off by √(rows/k), "
                "whatever the activations"
            )
        if not self.rank_min <= self.rank <= self.rank_max:
            raise ValueError(
                f"rank {self.rank} isn't between rank_min {self.rank_min} and rank_max "
                f"{self.rank_max}"
            )
        if self.columns is not None:
            raise ValueError("columns can't be given with adapt: a rank tells them")
        if self.error_low >= self.error_high:
            raise ValueError(
                f"error_low {self.error_low:g} isn't below error_high {self.error_high:g}"
            )
        return self

    @property
    def changing(self) -> bool:
        """Whether the rank, and so what is kept, changes over time."""
        return self.adapt != "none"

    def probed(self, reading: Reading, rng: Generator) -> Reading:
        """Return `reading`, with the sketch that tells its error where that is asked for."""
        return Probed(reading, self.error_rows, rng) if self.adapt == "error" else reading

    def probe_bytes(self, width: int) -> int:
        """Return the bytes that telling the error keeps of a layer: q·d numbers and a norm."""
        return 4 * self.error_rows * width + 4 if self.adapt == "error" else 0

    def controller(self, blocks: Sequence[SketchedBlock]) -> Controller | None:
        """Return the rule that `adapt` names."""
        if self.adapt == "none":
            return None
        ranks = Ranks(self.rank, self.rank_min, self.rank_max, self.rank_up, self.rank_down)
        if self.adapt == "error":
            return ByError(ranks, self.error_low, self.error_high)
        return ByLoss(ranks, self.improvement, self.patience_up, self.patience_down)


class Ranks:
    """The rank of all layers, and the steps and bounds of its changes."""

    def __init__(self, rank: int, least: int, most: int, up: int, down: int) -> None:
        self.rank = rank
        self._least, self._most = least, most
        self._up, self._down = up, down

    def higher(self) -> int:
        """Return the next higher rank, or the present one where that is the greatest."""
        return min(self.rank + self._up, self._most)

    def lower(self) -> int:
        """Return the next lower rank, or the present one where that is the least."""
        return max(self.rank - self._down, self._least)


class _Rule(nn.Module):
    """A controller: a decision after each epoch, and the change of rank that follows from it.

    A module so that the rank, and what decides the next one, is in the model's state dict.
    """

    def __init__(self, ranks: Ranks) -> None:
        super().__init__()
        self.ranks = ranks

    @abstractmethod
    def wanted(self, loss: float, readings: Sequence[Reading]) -> tuple[int, str]:
        """Return the rank from now on, and why."""

    def decide(self, loss: float, readings: Sequence[Reading]) -> Sequence[Event]:
        """Change the rank of all readings together, or of none; return the event."""
        inner = {id(reading.reading) for reading in readings if isinstance(reading, Probed)}
        outer = [reading for reading in readings if id(reading) not in inner]
        before, (rank, why) = self.ranks.rank, self.wanted(loss, outer)
        if rank == before:
            return ()
        for reading in outer:
            reading.resize(rank)
        self.ranks.rank = rank
        details: dict[str, str | int] = {
            "layers": len(outer),
            "from": before,
            "to": rank,
            "why": why,
        }
        return (Event("rank", details),)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the rank."""
        return {"rank": self.ranks.rank}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a state that `get_extra_state` returned."""
        self.ranks.rank = state["rank"]


class ByLoss(_Rule):
    """Up after `up` epochs in a row without improvement of the best loss, down after `down` with.

    Where it differs from a rule on validation loss: it is told the training loss.
    """

    def __init__(self, ranks: Ranks, improvement: float, up: int, down: int) -> None:
        super().__init__(ranks)
        self._improvement, self._up, self._down = improvement, up, down
        self._best = float("inf")
        self._better, self._worse = 0, 0  # epochs in a row

    def wanted(self, loss: float, readings: Sequence[Reading]) -> tuple[int, str]:
        """Return the rank after an epoch of this mean loss, and why."""
        if loss < self._best - self._improvement:
            self._best = loss
            self._better, self._worse = self._better + 1, 0
        else:
            self._better, self._worse = 0, self._worse + 1
        if self._worse >= self._up:
            why = f"{self._worse} epochs without improvement of the loss {self._best:.4g}"
            self._better, self._worse = 0, 0
            return self.ranks.higher(), why
        if self._better >= self._down:
            why = f"{self._better} epochs of improvement, to the loss {self._best:.4g}"
            self._better, self._worse = 0, 0
            return self.ranks.lower(), why
        return self.ranks.rank, ""

    def get_extra_state(self) -> dict[str, Any]:
        """Return the rank, the best loss, and the epochs in a row with and without improvement."""
        epochs = {"better": self._better, "worse": self._worse}
        return {**super().get_extra_state(), "best": self._best, **epochs}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a state that `get_extra_state` returned."""
        super().set_extra_state(state)
        self._best, self._better, self._worse = state["best"], state["better"], state["worse"]


class ByError(_Rule):
    """Up where the median layer's relative error is above one bound, down where below another.

    The error of a layer is the root of its mean square over the epoch's steps; one that isn't
    finite counts as infinite.
    """

    def __init__(self, ranks: Ranks, low: float, high: float) -> None:
        super().__init__(ranks)
        self._low, self._high = low, high

    def wanted(self, loss: float, readings: Sequence[Reading]) -> tuple[int, str]:
        """Return the rank after an epoch with these errors, and why."""
        found = [error for reading in readings if (error := reading.error()) is not None]
        if not found:
            return self.ranks.rank, ""
        shares = [float(error) ** 0.5 for error in found]
        median = statistics.median(s if math.isfinite(s) else math.inf for s in shares)
        if median > self._high:
            why = f"median relative error {median:.3g} is above {self._high:g}"
            return self.ranks.higher(), why
        if median < self._low:
            why = f"median relative error {median:.3g} is below {self._low:g}"
            return self.ranks.lower(), why
        return self.ranks.rank, ""
