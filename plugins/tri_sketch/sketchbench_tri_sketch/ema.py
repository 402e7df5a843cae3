"""The exponential moving average (EMA) of one layer's matrices over batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class EMA(nn.Module):
    """M ← βM + (1−β)·A of matrices A of one width, from zero; the mass so far is 1 − βᵗ.

    `total` is the running sum as it stands, not divided by its mass; None before the first batch,
    and always where β is 0: then nothing lives from step to step. It is replaced, never changed in
    place, so that what a backward pass still needs stays as it was. A matrix with fewer rows than
    the first one had is filled up with zeros; one with more is refused.
    """

    total: Tensor | None

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.steps = 0  # in the sum
        self.register_buffer("total", None)

    @property
    def mass(self) -> float:
        """Return 1 − βᵗ, what the weights in the running sum add up to. [Kingma & Ba 2015, §3]"""
        return 1 - self.decay ** max(1, self.steps) if self.decay else 1.0

    @property
    def rows(self) -> int | None:
        """Return the rows that every matrix is filled up to; None while there are none."""
        return None if self.total is None else len(self.total)

    def averaged(self, batch: Tensor, update: bool) -> Tensor:
        """Return the sum with `batch` in it, and keep it if `update`; not divided by its mass.

        Without `update` the batch is taken for the one absorbed last: the sum stays as it is.
        """
        if not self.decay:
            return batch
        if self.total is None:
            fresh = (1 - self.decay) * batch
            if update:
                self.total, self.steps = fresh, 1
            return fresh
        total = self.total.to(batch)  # a loaded sum is where it was saved
        if not update:
            return total
        more = len(total) - len(batch)
        if more < 0:
            raise ValueError(
                f"an EMA of batches of {len(total)} rows can't take one of {len(batch)}: "
                "rows are averaged by their position"
            )
        padded = nn.functional.pad(batch, (0, 0, 0, more)) if more else batch
        self.total = torch.lerp(padded, total, self.decay)
        self.steps += 1
        return self.total

    def clear(self) -> None:
        """Forget every batch."""
        self.total, self.steps = None, 0

    def get_extra_state(self) -> dict[str, Any]:
        """Return the count of batches."""
        return {"steps": self.steps}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Go on from a state that `get_extra_state` returned."""
        self.steps = state["steps"]

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take the sum whatever its shape: how many rows and columns it has is state too."""
        loaded = state_dict.get(f"{prefix}total")
        self.total = None if loaded is None else torch.empty_like(loaded)
        super()._load_from_state_dict(state_dict, prefix, *args)


def refuse_to_redraw(method: str, average: EMA) -> None:
    """Raise `RuntimeError` where `average` has sketches in it, which have their projections."""
    if average.total is not None:
        raise RuntimeError(
            f"{method}: an EMA over {average.steps} steps lives on its projections, which can't be "
            "drawn anew without it; resize(rank) starts both"
        )
