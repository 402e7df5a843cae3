"""Reconstruction: what an activation sketch gives back of a matrix of a known spectrum."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, Self

import torch
from pydantic import model_validator
from torch import nn

from sketchbench import ActivationSketch, Field, Reconstructed, Run, Workload
from sketchbench.autodiff import seeded

if TYPE_CHECKING:
    from torch import Generator, Tensor

NOISE = 1e-2  # the singular values behind the planted ones, as a fraction of these


class Reconstruction(Workload):
    """Error of the matrix Â that a sketch puts in the place of a layer's input A (rows, width).

    Every activation sketch gives a weight gradient δᵀÂ, so with δ = I the gradient is Â: the model
    is one linear layer without bias (width to rows), the loss the trace of its outputs. A has
    random singular vectors and the singular values of `spectrum`:

        power           1/i                     exponential     10^(−(i − 1)/4)
        power2          1/i²                    flat            1
        low-rank-noise  1, and 0.01 behind the first `planted`

    A stays, the sketch is drawn anew each time. Outcome `reconstruction`: the errors of all draws
    after each of `steps` steps (from 1), over τ_{r+1} with r = `rank`. With `change_after` another
    matrix of the same spectrum takes A's place; errors are always those of the present one. Where
    a layer's output is looked at, it is that of a layer with torch's initial weights. Regions:
    `build` is one draw, `step` one forward and backward.
    """

    name = "reconstruction"
    regions = ("build", "step")
    outcomes = {"reconstruction": Reconstructed}

    activation: ActivationSketch = Field(description="The sketch under test.")
    rows: int = Field(128, ge=2, description="Rows of A: examples, or examples times places.")
    width: int = Field(512, ge=2, description="Columns of A: the layer's width.")
    spectrum: Literal["power", "power2", "exponential", "low-rank-noise", "flat"] = Field(
        "power", description="Singular values of A."
    )
    planted: int = Field(5, ge=1, description="Large ones in the spectrum `low-rank-noise`.")
    rank: int = Field(2, ge=0, description="r of τ_{r+1}, the error of the best rank r.")
    repeats: int = Field(100, ge=1, description="Independent draws of the sketch.")
    steps: int = Field(1, ge=1, description="Steps of each draw: updates of a sketch with memory.")
    change_after: int = Field(0, ge=0, description="Steps until A changes; 0 for never.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.rank >= min(self.rows, self.width):
            raise ValueError(
                f"rank {self.rank} leaves no tail: A is {self.rows} × {self.width}; "
                f"take one below {min(self.rows, self.width)}"
            )
        if self.change_after >= self.steps:
            raise ValueError(
                f"change_after {self.change_after} must be below steps {self.steps}: "
                "after the last step there is nothing to see"
            )
        return self

    def run(self, run: Run) -> None:
        """Step each draw of the sketch; deliver the errors over all draws at each step."""
        values = self._values()
        before, after = (self._matrix(values, run.rng(name)) for name in ("before", "after"))
        sequence = [
            (after if self.change_after and step >= self.change_after else before).to(run.device)
            for step in range(self.steps)
        ]
        errors = torch.stack([self._errors(run, draw, sequence) for draw in range(self.repeats)])
        norm, tail = (values[start:].norm().item() for start in (0, self.rank))
        for step in range(self.steps):
            outcome = Reconstructed(errors[:, step], norm, tail)
            run.deliver("reconstruction", outcome, at=step + 1)

    def _errors(self, run: Run, draw: int, sequence: list[Tensor]) -> Tensor:
        """Return ‖A − Â‖ (steps,) of one draw of the sketch."""
        with seeded(run.rng("weights")):
            layer = nn.Linear(self.width, self.rows, bias=False)
        layer.to(run.device)
        rng = run.rng(f"activation/{draw}")
        with run.region("build"):
            sketched = self.activation.build(nn.Sequential(layer), self.rows, rng)
        sketched.model.train()
        run.watch(model=sketched.model)
        targets = torch.arange(self.rows, device=run.device)
        errors = []
        for matrix in sequence:
            run.watch(inputs=matrix)
            layer.weight.grad = None
            with run.region("step"):
                sketched.accumulate(matrix, targets, _trace)
            found = layer.weight.grad
            approx = matrix.new_zeros(()) if found is None else found
            errors.append((matrix.double() - approx.double()).norm())
        return torch.stack(errors).cpu()

    def _values(self) -> Tensor:
        """Return the singular values of A (min(rows, width),), in double precision."""
        index = torch.arange(1, min(self.rows, self.width) + 1, dtype=torch.double)
        match self.spectrum:
            case "power":
                return 1 / index
            case "power2":
                return 1 / index.square()
            case "exponential":
                return ((1 - index) / 4 * math.log(10)).exp()
            case "low-rank-noise":
                return torch.where(index <= self.planted, 1.0, NOISE).double()
            case "flat":
                return torch.ones_like(index)

    def _matrix(self, values: Tensor, rng: Generator) -> Tensor:
        """Return A (rows, width) with these singular values, on the CPU."""
        left, right = (
            torch.linalg.qr(torch.randn(size, len(values), generator=rng, dtype=torch.double))[0]
            for size in (self.rows, self.width)
        )
        matrix: Tensor = (left * values) @ right.mT
        return matrix.float()


def _trace(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the trace of the outputs (rows, rows); of some rows, a mean that adds up to it.

    As a mean over the rows at hand, scaled, so that micro-batches with their weights add up too.
    """
    return outputs.gather(1, targets[:, None]).mean() * outputs.shape[1]
