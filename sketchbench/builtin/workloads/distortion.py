"""Distortion: what a gradient sketch does to lengths and angles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from pydantic import model_validator

from sketchbench import (
    Approximation,
    Field,
    GradientSketch,
    LinearSketch,
    Missing,
    Model,
    Optimizer,
    Run,
    Task,
    Workload,
)
from sketchbench.builtin.workloads.directions import (
    NAMED,
    Directions,
    drawn,
    example_gradients,
    named,
    trained,
)

if TYPE_CHECKING:
    from torch import Tensor

TOLD = 20  # draws whose conditional variance is asked for: it takes longer than a product


@dataclass(frozen=True)
class Norms(Approximation):
    """Outcome: ‖x‖² and ‖Sx‖² (draws, vectors) of sketches to `out_size`, D.

    `names` are those of the vectors, of adversarial ones.
    """

    out_size: int
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class InnerProducts(Approximation):
    """Outcome: ⟨x, y⟩ and ⟨Sx, Sy⟩ (draws, pairs) of unit vectors x and y."""


@dataclass(frozen=True)
class Conditional:
    """Outcome: D·Var‖Sx‖²/2 of unit vectors, over a sketch's Gaussians alone: (draws, vectors).

    Exact, given all else that was drawn, so that few draws are enough. `names` as of `Norms`.
    """

    kappas: Tensor
    names: tuple[str, ...] = ()


class Distortion(Workload):
    """How well a gradient sketch keeps squared norms and inner products of unit vectors.

    The vectors stay, the sketch is drawn anew each time. Outcome `norms`: ‖x‖² and ‖Sx‖², each
    (repeats, vectors). Outcome `inner`: ⟨x, y⟩ and ⟨Sx, Sy⟩ for a y at about 60° of x, each
    (repeats, pairs): every pair of vectors i < j makes x = xᵢ and y ∝ xᵢ + √3·xⱼ, whose image is
    that of xᵢ and xⱼ, combined. Spikes make a cosine of ½ to the bit, others up to O(1/√N).
    Relative errors don't grow with `vectors`: √(2/D) and √(5/D) for Gaussian entries. Outcome
    `conditional`: exact variances given all but the Gaussians, of sketches that tell them, in 20
    draws at the most.

    Directions with a name of `sketchbench.linalg.adversarial` are that vector, and pairs are it
    with each of `vectors` − 1 Gaussian ones; `adversarial` are all that fit into N, whatever
    `vectors` says; `gradients` are those of single examples of `task`, of length 1, at a model's
    initial weights or after `steps` of training, in batches of 64; N is then its number of
    parameters, not `size`. Regions: `build` is one draw, `step` one application to all vectors.
    """

    name = "distortion"
    regions = ("build", "step")
    outcomes = {"norms": Norms, "inner": InnerProducts, "conditional": Conditional}

    sketch: GradientSketch = Field(description="The map under test.")
    size: int = Field(4096, ge=1, description="N, the length of a vector; not of `gradients`.")
    vectors: int = Field(32, ge=2, description="Vectors that each draw is applied to.")
    repeats: int = Field(10, ge=1, description="Independent draws of the sketch.")
    directions: Directions = Field(
        "gaussian",
        description=(
            "Unit vectors: uniform on the sphere; distinct coordinate axes (`spike`); one "
            "adversarial input, or all (`adversarial`); `gradients` of examples."
        ),
    )
    task: Task | None = Field(None, description="Whose examples `gradients` are of.")
    model: Model | None = Field(None, description="Whose `gradients` are taken.")
    optimizer: Optimizer | None = Field(None, description="What trains the model before.")
    steps: int = Field(0, ge=0, description="Training steps before `gradients` are taken.")

    @model_validator(mode="after")
    def _axes_suffice(self) -> Self:
        if self.directions == "spike" and self.vectors > self.size:
            raise ValueError(f"{self.vectors} distinct axes need a size of at least that")
        return self

    @model_validator(mode="after")
    def _gradients_have_a_model(self) -> Self:
        given = self.task is not None and self.model is not None
        if self.directions == "gradients" and not given:
            raise ValueError("directions 'gradients' need a task and a model")
        if self.steps and self.optimizer is None:
            raise ValueError(f"{self.steps} training steps need an optimizer")
        return self

    def run(self, run: Run) -> None:
        """Draw and apply the sketch `repeats` times; deliver the outcomes over all draws."""
        found: tuple[Tensor, tuple[str, ...], int] | None = None
        sizes: Mapping[str, int] | None = None
        if self.directions == "gradients":
            vectors, sizes = self._gradients(run)
            found = vectors.to(run.device), (), len(vectors)
        grams = []
        for draw in range(self.repeats):
            with run.region("build"):
                sketch = self._drawn(run, draw, sizes)
            found = found or self._vectors(run, sketch.shape[0])
            run.watch(inputs=found[0])
            with run.region("step"):
                sketched = sketch.apply(found[0])
            grams.append(_gram(sketched))
        assert found is not None
        vectors, names, judged = found
        approx = torch.stack(grams)
        exact = _gram(vectors).expand_as(approx)
        norms = _norms(exact, judged), _norms(approx, judged)
        run.deliver("norms", Norms(*norms, sketch.shape[0], names))
        inner = _inner(exact, exact, judged), _inner(approx, exact, judged)
        run.deliver("inner", InnerProducts(*inner))
        run.deliver("conditional", lambda: self._conditional(run, sizes, vectors[:judged], names))

    def _drawn(self, run: Run, draw: int, sizes: Mapping[str, int] | None) -> LinearSketch:
        """Return one draw of the sketch: of vectors of `size`, or of named parameters."""
        rng = run.rng(f"sketch/{draw}")
        if sizes is None:
            return self.sketch.build(self.size, rng, run.device)
        return self.sketch.build_named(sizes, rng, run.device)

    def _vectors(self, run: Run, out_size: int) -> tuple[Tensor, tuple[str, ...], int]:
        """Return unit vectors (n, size), their names, and how many of the first are judged."""
        rng = run.rng("vectors")
        if self.directions in ("gaussian", "spike"):
            vectors = drawn(self.directions, self.vectors, self.size, rng)
            return vectors.to(run.device), (), self.vectors
        names, vectors = named(self.directions, self.size, out_size)
        if self.directions in NAMED:
            others = drawn("gaussian", self.vectors - 1, self.size, rng)
            vectors = torch.cat([vectors, others])
        return vectors.to(run.device), names, len(names)

    def _gradients(self, run: Run) -> tuple[Tensor, Mapping[str, int]]:
        """Return gradients of examples (vectors, N), of length 1, and the parameters' sizes."""
        assert self.task is not None
        assert self.model is not None
        model = trained(run, self.task, self.model, self.optimizer, self.steps)
        return example_gradients(run, self.task, model, self.vectors)

    def _conditional(
        self, run: Run, sizes: Mapping[str, int] | None, vectors: Tensor, names: tuple[str, ...]
    ) -> Conditional | Missing:
        """Return exact variances of the first draws; `Missing` of a sketch that has none."""
        kappas = []
        for draw in range(min(TOLD, self.repeats)):
            kappa = getattr(self._drawn(run, draw, sizes), "conditional_kappa", None)
            if kappa is None:
                return Missing(f"'{self.sketch.name}' doesn't tell its conditional variance")
            kappas.append([float(kappa(vector)) for vector in vectors])
        return Conditional(torch.tensor(kappas, dtype=torch.float64), names)


def _gram(vectors: Tensor) -> Tensor:
    """Return the inner products of vectors (n, d) as (n, n), in double precision."""
    vectors = vectors.double()
    return vectors @ vectors.mT


def _norms(gram: Tensor, judged: int) -> Tensor:
    """Return the squared norms (..., judged) of the first vectors of a Gram matrix."""
    return gram.diagonal(dim1=-2, dim2=-1)[..., :judged]


def _inner(gram: Tensor, exact: Tensor, judged: int) -> Tensor:
    """Return ⟨xᵢ, y⟩ (..., pairs) for y = (xᵢ + √3·xⱼ) / ‖xᵢ + √3·xⱼ‖ and each i < j, i < judged.

    `gram` (..., n, n) holds the inner products of the xᵢ or of their images, `exact` those of
    the xᵢ, which give the norm of y.
    """
    i, j = torch.triu_indices(gram.shape[-1], gram.shape[-1], offset=1)
    i, j = i[i < judged], j[i < judged]
    lengths = exact[..., i, i] + 2 * 3**0.5 * exact[..., i, j] + 3 * exact[..., j, j]
    return (gram[..., i, i] + 3**0.5 * gram[..., i, j]) / lengths.sqrt()
