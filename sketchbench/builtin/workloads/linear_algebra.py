"""Linear algebra: least squares, low rank and spectra of matrices that a sketch shrinks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import torch
from pydantic import model_validator

from sketchbench import Approximation, Field, GradientSketch, Run, Task, Workload
from sketchbench.builtin.workloads.least_squares import LeastSquares, Preconditioned, Solved
from sketchbench.builtin.workloads.low_rank import LowRank, Nystrom, approximated
from sketchbench.builtin.workloads.matrices import (
    Coherence,
    Spectrum,
    features,
    kernel,
    orthonormal,
    planted_matrix,
    planted_target,
    planted_values,
    stretch,
)

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True)
class Embedded:
    """Outcome: the smallest and largest singular value of SQ, each (draws,).

    Q is an orthonormal basis of the subspace; both are 1 for an isometry.
    """

    smallest: Tensor
    largest: Tensor


@dataclass
class _Sketched:
    """What all draws made of the problem: images of [A b], of Q, and the errors of K."""

    problems: list[Tensor] = field(default_factory=list)
    bases: list[Tensor] = field(default_factory=list)
    kernels: list[float] = field(default_factory=list)


class LinearAlgebra(Workload):
    """Shrink the rows of a tall matrix A (rows, columns) with a gradient sketch, and use SA.

    Outcome `solved`: least squares, of the problem [SA Sb] in the place of [A b]; outcome
    `preconditioned`: LSQR of [A b], with R of SA = QR as its right preconditioner; both need
    D ≥ columns. Outcome `embedding`: what S does to the range of A. Outcome `svd`: A projected on
    the row space of SA, at rank k. Outcome `nystrom`: K ≈ KSᵀ(SKSᵀ)⁺SK, at rank k. Outcome
    `spectrum`: the k largest singular values of SA beside those of A.

    Planted matrices have random right vectors and the singular values of `spectrum`; left ones are
    uniformly random, or coordinate axes where `coherent`: then as many rows have leverage 1, which
    is what sampling them, and sketches that mix too little, miss. `hadamard` ones are columns of a
    Hadamard matrix in the first 4 · `columns` rows, for sketches that mix by it without signs.

        power  1/i      exponential  10^(−(i − 1)/16)
        flat  1         low-rank  1, and 0.001 behind the first `planted`

    K has these left vectors and, as eigenvalues, the same values. With a `task`, A are features of
    `rows` random training examples, without columns that are combinations of others, b are the
    targets as numbers, and K is the Gaussian kernel of A's rows, as wide as the median distance.
    All is in double precision. Regions: `build` is one draw, `step` the image of [A b].
    """

    name = "linear-algebra"
    regions = ("build", "step")
    outcomes = {
        "solved": Solved,
        "preconditioned": Preconditioned,
        "embedding": Embedded,
        "svd": LowRank,
        "nystrom": LowRank,
        "spectrum": Approximation,
    }

    sketch: GradientSketch = Field(description="The sketch under test, of vectors of `rows`.")
    rows: int = Field(4096, ge=2, description="Rows of A.")
    columns: int = Field(64, ge=2, description="Columns of a planted A; not of features.")
    spectrum: Spectrum = Field("exponential", description="Singular values of a planted A.")
    coherence: Coherence = Field(
        "incoherent", description="Left singular vectors of a planted A: random, axes, or Hadamard."
    )
    planted: int = Field(10, ge=1, description="Large singular values of `low-rank`.")
    noise: float = Field(0.1, gt=0, description="‖b − Ax*‖ / ‖Ax*‖ of a planted problem.")
    rank: int = Field(10, ge=1, description="k of `svd`, `nystrom` and `spectrum`.")
    repeats: int = Field(10, ge=1, description="Independent draws of the sketch.")
    tolerance: float = Field(1e-10, gt=0, lt=1, description="LSQR's, of the normal equations.")
    limit: int = Field(1000, ge=1, description="Iterations after which LSQR gives up.")
    task: Task | None = Field(None, description="Whose features are A; null plants it.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.columns >= self.rows:
            raise ValueError(f"columns {self.columns} must be fewer than rows {self.rows}")
        if self.task is None and self.rank >= self.columns:
            raise ValueError(f"rank {self.rank} leaves no tail of {self.columns} columns")
        if self.coherence == "hadamard" and stretch(self.columns) > self.rows:
            raise ValueError(
                f"coherence 'hadamard' of {self.columns} columns takes {stretch(self.columns)} rows"
            )
        return self

    def run(self, run: Run) -> None:
        """Sketch the problem `repeats` times; then deliver every outcome over all draws."""
        matrix, target, psd = self._problem(run.rng("matrix"))
        matrix, target, psd = matrix.to(run.device), target.to(run.device), psd.to(run.device)
        basis = torch.linalg.qr(matrix)[0]
        problem = torch.cat([matrix, target[:, None]], dim=1).mT.contiguous()
        run.watch(inputs=problem)
        found = _Sketched()
        for draw in range(self.repeats):
            with run.region("build"):
                sketch = self.sketch.build(len(matrix), run.rng(f"sketch/{draw}"), run.device)
            with run.region("step"):
                image = sketch.apply(problem)
            found.problems.append(image.mT)
            found.bases.append(sketch.apply(basis.mT.contiguous()).mT)
            found.kernels.append(psd.error(sketch, self.rank))
        self._deliver(run, matrix, target, psd, found)

    def _problem(self, rng: Generator) -> tuple[Tensor, Tensor, Nystrom]:
        """Return A (rows, n), b (rows,) and K, on the CPU."""
        if self.task is not None:
            matrix, target = features(self.task, self.rows, rng)
            return matrix, target, Nystrom.of(kernel(matrix))
        values = planted_values(self.spectrum, self.columns, self.planted)
        left = orthonormal(self.rows, self.columns, self.coherence, rng)
        matrix = planted_matrix(left, values, rng)
        return matrix, planted_target(matrix, self.noise, rng), Nystrom.planted(left, values)

    def _deliver(
        self, run: Run, matrix: Tensor, target: Tensor, psd: Nystrom, found: _Sketched
    ) -> None:
        """Deliver every outcome, each only if a score asks for it."""
        problem = LeastSquares(matrix.cpu(), target.cpu(), self.tolerance, self.limit)
        images = [image.cpu() for image in found.problems]
        matrix = matrix.cpu()
        run.deliver("solved", lambda: problem.solved(images))
        run.deliver("preconditioned", lambda: problem.preconditioned(images))
        run.deliver("embedding", lambda: _embedded([basis.cpu() for basis in found.bases]))
        halves = [image[:, :-1] for image in images]
        run.deliver("svd", lambda: approximated(matrix, halves, self.rank))
        errors = torch.tensor(found.kernels, dtype=torch.double)
        run.deliver("nystrom", lambda: LowRank(errors, psd.best(self.rank)))
        run.deliver("spectrum", lambda: _spectrum(matrix, halves, self.rank))


def _embedded(images: list[Tensor]) -> Embedded:
    """Return the extreme singular values of images SQ (D, n), the smallest 0 where D < n."""
    values = [torch.linalg.svdvals(image) for image in images]
    smallest = [
        found[-1] if len(image) >= image.shape[1] else found.new_zeros(())
        for image, found in zip(images, values, strict=True)
    ]
    return Embedded(torch.stack(smallest), torch.stack([found[0] for found in values]))


def _spectrum(matrix: Tensor, images: list[Tensor], rank: int) -> Approximation:
    """Return the largest singular values of A and of each SA, (draws, rank); 0 beyond D."""
    exact = torch.linalg.svdvals(matrix)[:rank]
    approx = exact.new_zeros(len(images), len(exact))
    for row, image in zip(approx, images, strict=True):
        values = torch.linalg.svdvals(image)[:rank]
        row[: len(values)] = values
    return Approximation(exact.expand_as(approx), approx)
