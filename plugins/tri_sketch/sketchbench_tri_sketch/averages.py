"""Readings that keep averages of activations: over batches, and over the rows of one."""

from __future__ import annotations

from typing import Any

from torch import Generator, Tensor

from sketchbench import Field
from sketchbench.measure import category
from sketchbench_tri_sketch.draws import wide
from sketchbench_tri_sketch.ema import EMA
from sketchbench_tri_sketch.reading import Reading
from sketchbench_tri_sketch.recipes import LayerSketch


class EMAFull(LayerSketch):
    """Keep the EMA of the activations themselves: Â = M, with no sketching error at all.

    What an EMA costs a gradient. For batches drawn independently at fixed weights
    E[δᵀM] = (1−β)E[g] + βE[Σδ]E[ā]ᵀ: biased, unless β is 0. It saves no memory. A last batch with
    fewer rows is filled up with zeros. [the EMA of arXiv 2510.00442, without its sketches]
    """

    name = "ema-full"
    beta: float = Field(0.95, ge=0, lt=1, description="β, the decay of the average; 0: exact.")
    bias_correction: bool = Field(True, description="Whether to divide by 1 − βᵗ.")

    def reading(
        self, width_in: int, width_out: int, batch_rows: int | None, rng: Generator
    ) -> Reading:
        """Return the average of one layer's inputs."""
        return _Averaged(self.beta, self.bias_correction)

    def break_even(self, width: int) -> int | None:
        """Return None: it keeps as many numbers as exact training, and ReLU's signs."""
        return None


class MeanActivation(LayerSketch):
    """Keep the mean row ā alone: Â = 1·āᵀ, so that ĝ is (Σδ)āᵀ, a matrix of rank one.

    A control: an EMA's gradient tends to this one. It needs no more than the bias's gradient and
    one vector, and its cosine with the true gradient is high all the same.
    """

    name = "mean-activation"

    def reading(
        self, width_in: int, width_out: int, batch_rows: int | None, rng: Generator
    ) -> Reading:
        """Return the mean of one layer's inputs."""
        return _Mean()

    def break_even(self, width: int) -> int | None:
        """Return 2: a vector, and a bit an activation for ReLU."""
        return 2


class _Averaged(Reading):
    method = "ema-full"

    def __init__(self, decay: float, corrected: bool) -> None:
        super().__init__()
        self.corrected, self.moves = corrected, decay > 0
        self.average = EMA(decay)

    def keep(
        self, rows: Tensor, outputs: Tensor | None, update: bool
    ) -> tuple[list[Tensor], float]:
        with category("sketch"):
            total = self.average.averaged(rows.to(wide(rows.dtype)), update)
        return [total], self.average.mass if self.corrected else 1.0

    def gradient(self, delta: Tensor, kept: Any, note: Any) -> Tensor:
        (total,) = kept
        product: Tensor = delta.to(total.dtype).mT @ total[: len(delta)] / note
        return product


class _Mean(Reading):
    method = "mean-activation"
    moves = False

    def keep(self, rows: Tensor, outputs: Tensor | None, update: bool) -> tuple[list[Tensor], None]:
        with category("sketch"):
            return [rows.mean(0, dtype=wide(rows.dtype))], None

    def gradient(self, delta: Tensor, kept: Any, note: Any) -> Tensor:
        (mean,) = kept
        return delta.sum(0, dtype=mean.dtype).outer(mean)
