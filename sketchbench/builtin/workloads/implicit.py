"""Implicit against explicit: two ways to the sketch of one gradient, and what each costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sketchbench import Approximation, Field, GradientSketch, Model, Run, Task, Workload
from sketchbench.autodiff import seeded
from sketchbench.builtin.workloads.precision import FP32
from sketchbench.builtin.workloads.subspace import Gradient, Subspace
from sketchbench.curvature import gradient, sizes

if TYPE_CHECKING:
    from torch import Tensor


class ImplicitExplicit(Workload):
    """Sketch the gradient Φ∇L(θ₀) of a batch: ∇L first, or through ω ↦ L(θ₀ + Φᵀω) at ω = 0.

    The first is forward, backward and Φ; the second has Φᵀ on top, and what it holds. Weights are
    the initial ones. Regions: `build` draws the sketch, `step` is one sketched gradient, each of
    another batch. Outcome `gradient`: Φ∇L of all batches in double precision, and as it was got.
    """

    name = "implicit-explicit"
    regions = ("build", "step")
    outcomes = {"gradient": Approximation}

    task: Task = Field(description="Where the batches and the loss are from.")
    model: Model = Field(description="What is differentiated.")
    sketch: GradientSketch = Field(description="Φ.")
    gradient: Gradient = Field(
        "explicit", description="Which way: ∇L and then Φ, or the gradient with respect to ω."
    )
    batch_size: int = Field(32, ge=1, description="Examples a step; the split's, if it has fewer.")
    repeats: int = Field(10, ge=1, description="Sketched gradients.")

    def run(self, run: Run) -> None:
        """Sketch `repeats` gradients; deliver all of them beside the exact ones."""
        data = self.task.load("train").to(run.device)
        with seeded(run.rng("weights")):
            model = self.model.build(self.task.shapes)
        FP32().place(model, run.device)
        model.eval()
        with run.region("build"):
            sketch = self.sketch.build_named(sizes(model), run.rng("sketch"), run.device)
        subspace = Subspace(model, sketch)
        run.watch(model=model)
        order = run.rng("shuffle")
        exact, found = [], []
        for _ in range(self.repeats):
            batch = self._batch(len(data.targets), order).to(run.device)
            inputs, targets = FP32().inputs(data.inputs[batch]), data.targets[batch]
            run.watch(inputs=(inputs, targets))
            with run.region("step"):
                _, got = subspace.gradient(self.gradient, None, inputs, targets, self.task.loss)
            found.append(got.double())
            wide = gradient(model, self.task.loss, inputs, targets, dtype=torch.float64)
            exact.append(sketch.apply(wide))
        run.deliver("gradient", Approximation(torch.stack(exact), torch.stack(found)))

    def _batch(self, count: int, rng: torch.Generator) -> Tensor:
        return torch.randperm(count, generator=rng)[: self.batch_size]
