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
    (repeats, vectors). Outcome `inner`: ⟨x, y⟩ and ⟨Sx, Sy⟩ for a y at about 60° of x, each
    (repeats, pairs): every pair of vectors i < j makes x = xᵢ and y ∝ xᵢ + √3·xⱼ, whose image is
    that of xᵢ and xⱼ, combined. Spikes make a cosine of ½ to the bit, others up to O(1/√N).
    Relative errors don't grow with `vectors`: √(2/D) and √(5/D) for Gaussian entries.
    Regions: `build` is one draw, `step` one application to all vectors.
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
        run.deliver("inner", Approximation(_inner(exact, exact), _inner(approx, exact)))

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


def _inner(gram: Tensor, exact: Tensor) -> Tensor:
    """Return ⟨xᵢ, y⟩ (..., pairs) for y = (xᵢ + √3·xⱼ) / ‖xᵢ + √3·xⱼ‖ and each i < j.

    `gram` (..., n, n) holds the inner products of the xᵢ or of their images, `exact` those of
    the xᵢ, which give the norm of y.
    """
    i, j = torch.triu_indices(gram.shape[-1], gram.shape[-1], offset=1)
    lengths = exact[..., i, i] + 2 * 3**0.5 * exact[..., i, j] + 3 * exact[..., j, j]
    return (gram[..., i, i] + 3**0.5 * gram[..., i, j]) / lengths.sqrt()
