"""Throughput: the time and memory of a gradient sketch, beside those of copying its vector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

import torch
from pydantic import model_validator

from sketchbench import Field, GradientSketch, LinearSketch, Run, Skip, Workload
from sketchbench.measure import category

if TYPE_CHECKING:
    from torch import Tensor

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Throughput(Workload):
    """Draw one sketch, apply it and its adjoint again and again, and copy the vector each time.

    Copies are taken in turn with the products, so that what slows the machine slows both. The
    vectors are Gaussian. With `piece` the sketch never sees more than so many entries at once, as
    parameters come one after another: they are fed to its `accumulate`. Regions: `build` is the
    draw, `step` one product Sx, `adjoint` one Sᵀy, `copy` one copy into memory that is there.
    What the draw leaves behind counts as `sketch_bytes` of a step.
    """

    name = "throughput"
    regions = ("build", "step", "adjoint", "copy")

    sketch: GradientSketch = Field(description="The map under test.")
    size: int = Field(2**20, ge=1, description="N, the length of a vector.")
    batch: int = Field(1, ge=1, description="Vectors that a product takes at once.")
    repeats: int = Field(7, ge=1, description="Products, adjoints and copies; two warm up.")
    piece: int | None = Field(
        None, ge=1, description="Entries that are fed at a time; null for the whole vector."
    )
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="Of the vectors."
    )
    adjoint: bool = Field(True, description="Whether the adjoint is measured too.")

    @model_validator(mode="after")
    def _pieces_are_pieces(self) -> Self:
        if self.piece is not None and self.piece > self.size:
            raise ValueError(f"piece {self.piece} is more than size {self.size}")
        return self

    def run(self, run: Run) -> None:
        """Build once, then repeat; raise `Skip` where pieces are wanted of what takes none."""
        drawn = torch.randn(self.batch, self.size, generator=run.rng("vectors"))
        x = drawn.to(run.device, DTYPES[self.dtype])
        del drawn
        copied = torch.empty_like(x)
        run.watch(inputs=x)
        with run.region("build"), category("sketch"):
            sketch = self.sketch.build(self.size, run.rng("sketch"), run.device)
        if self.piece is not None and not hasattr(sketch, "accumulate"):
            raise Skip(f"throughput: '{self.sketch.name}' takes no vector in pieces")
        for _ in range(self.repeats):
            with run.region("copy"):
                copied.copy_(x)
            with run.region("step"):
                y = self._product(sketch, x)
            if self.adjoint:
                with run.region("adjoint"):
                    back = sketch.adjoint(y)
                del back

    def _product(self, sketch: LinearSketch, x: Tensor) -> Tensor:
        """Return Sx (batch, D) of x (batch, N), whole or piece by piece."""
        if self.piece is None:
            return sketch.apply(x)
        y = x.new_zeros(len(x), sketch.shape[0], dtype=torch.float32)
        for start in range(0, self.size, self.piece):
            sketch.accumulate(y, x[:, start : start + self.piece], start)  # type: ignore[attr-defined]
        return y
