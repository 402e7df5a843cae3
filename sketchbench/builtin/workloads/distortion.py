"""Distortion: what a gradient sketch does to lengths and angles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import model_validator

from sketchbench import Approximation, Field, GradientSketch, Run, Workload

if TYPE_CHECKING:
    from torch import Generator, Tensor


class Distortion(Workload):
    """How well a gradient sketch keeps squared norms and inner products of unit vectors.

    The vectors stay, the sketch is drawn anew each time. Outcome `norms`: ‖x‖² and ‖Sx‖², each
    (repeats, vectors); `inner`: the Gram matrices XXᵀ, each (repeats, vectors, vectors), whose
    diagonal holds the norms. Regions: `build` is one draw, `step` one application to all vectors.
    """

    name = "distortion"
    regions = ("build", "step")
    outcomes = {"norms": Approximation, "inner": Approximation}

    sketch: GradientSketch = Field(description="The map under test.")
    size: int = Field(4096, ge=1, description="N, the length of a vector.")
    vectors: int = Field(32, ge=2, description="Vectors that each draw is applied to.")
    repeats: int = Field(10, ge=1, description="Independent draws of the sketch.")
    directions: Literal["gaussian", "spike"] = Field(
        "gaussian",
        description="Unit vectors: uniform on the sphere, or distinct coordinate axes.",
    )

    @model_validator(mode="after")
    def _axes_suffice(self) -> Self:
        if self.directions == "spike" and self.vectors > self.size:
            raise ValueError(f"{self.vectors} distinct axes need a size of at least that")
        return self

    def run(self, run: Run) -> None:
        """Draw and apply the sketch `repeats` times; deliver both outcomes over all draws."""
        vectors = self._vectors(run.rng("vectors")).to(run.device)
        run.watch(inputs=vectors)
        grams = []
        for draw in range(self.repeats):
            rng = run.rng(f"sketch/{draw}")
            with run.region("build"):
                sketch = self.sketch.build(self.size, rng, run.device)
            with run.region("step"):
                sketched = sketch.apply(vectors)
            grams.append(_gram(sketched))
        approx = torch.stack(grams)
        exact = _gram(vectors).expand_as(approx)
        norms = Approximation(exact.diagonal(dim1=1, dim2=2), approx.diagonal(dim1=1, dim2=2))
        run.deliver("norms", norms)
        run.deliver("inner", Approximation(exact, approx))

    def _vectors(self, rng: Generator) -> Tensor:
        """Return the unit vectors (vectors, size), on the CPU."""
        if self.directions == "gaussian":
            drawn = torch.randn(self.vectors, self.size, generator=rng)
            return F.normalize(drawn, dim=1)
        axes = torch.randperm(self.size, generator=rng)[: self.vectors]
        return torch.zeros(self.vectors, self.size).scatter_(1, axes[:, None], 1.0)


def _gram(vectors: Tensor) -> Tensor:
    """Return the inner products of vectors (n, d) as (n, n), in double precision."""
    vectors = vectors.double()
    return vectors @ vectors.mT
