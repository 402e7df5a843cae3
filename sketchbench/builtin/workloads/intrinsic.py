"""Intrinsic dimension: the smallest random subspace in which a model learns its task."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

import torch
from pydantic import model_validator
from torch import nn

from sketchbench import (
    Diverged,
    Event,
    Field,
    GradientSketch,
    Missing,
    Optimizer,
    Predictions,
    Run,
    Split,
)
from sketchbench.autodiff import seeded
from sketchbench.builtin.metrics.predictions import Accuracy
from sketchbench.builtin.workloads.compression import WIDTHS, Compressed, code_bits, quantised
from sketchbench.builtin.workloads.fitting import fit
from sketchbench.builtin.workloads.loop import Training
from sketchbench.builtin.workloads.precision import FP32
from sketchbench.builtin.workloads.subspace import Gradient, Subspace
from sketchbench.curvature import sizes

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Descent:
    """Outcome: training in a subspace, until the accuracy reaches `target` or steps run out.

    `dimension` is the last, of `largest` at most, in a model of `size` parameters; `reached` says
    whether the target was, `best` is the highest accuracy seen, `full` the whole model's.
    """

    dimension: int
    largest: int
    size: int
    steps: int
    reached: bool
    best: float
    target: float
    full: float


class IntrinsicDimensionSearch(Training):
    """Find in one run the dimension D* at which training in θ₀ + Φᵀω reaches τ₉₀.

    Φ (D, N) is drawn once, and `optimizer` moves ω, of which the last D − d gradient components
    are zeroed. After every `every` steps: stop at an accuracy of τ₉₀; where it has risen by less
    than `improvement` since the last look, double d. `epochs` is the budget of steps. τ₉₀ is
    `share` of the accuracy of the whole model, trained for as many epochs in the same run.
    [arXiv 2402.03994, Listing 9; Li et al. 2018]

    Outcome `test` are predictions at each look (points are steps), `reference` those of the whole
    model; `search` is how it ended, `half` the training anew at D*/2 with the whole budget, which
    must not reach τ₉₀ if D* is the intrinsic dimension to a factor of 2; `compression` the model
    that was found, in codes: ω rounded, one at each width of 1 to 8 bits. Regions: `build` draws
    the sketch, `step` is one step of the search.

    Differs from the paper:
    1. After each step ω is zeroed, too, behind d: an optimizer that mixes coordinates would move
       it without a gradient.
    2. Φ has E‖Φx‖² = ‖x‖², so a step of ω of length 1 moves the weights by √(N/D): rates belong
       to one D.
    3. It looks after the last step, too.

    The first d entries of Φᵀω span what a sketch of d would only where each entry of Φ's rows is
    random: of a hash they move d/D of the parameters and leave the rest.
    """

    name = "intrinsic-dimension"
    regions = ("build", "step")
    outcomes = {
        "test": Predictions,
        "reference": Predictions,
        "search": Descent,
        "half": Descent,
        "compression": Compressed,
    }

    sketch: GradientSketch = Field(description="Φ; its D is the largest dimension.")
    gradient: Gradient = Field("explicit", description="Which way to the gradient of ω.")
    first: int = Field(16, ge=1, description="d at the start.")
    every: int = Field(20, ge=1, description="c, steps from one look to the next.")
    improvement: float = Field(
        0.01, ge=0, description="δ, the rise of accuracy since the last look below which d doubles."
    )
    share: float = Field(0.9, gt=0, le=1, description="Of the whole model's accuracy: 0.9 is τ₉₀.")
    reference: float | None = Field(
        None, gt=0, le=1, description="The whole model's accuracy; null trains it in this run."
    )
    reference_optimizer: Optimizer | None = Field(
        None, description="What trains the whole model; null is `optimizer`."
    )
    verify: bool = Field(True, description="Whether to train at D*/2 as well.")

    @model_validator(mode="after")
    def _one_reference(self) -> Self:
        if self.reference is not None and self.reference_optimizer is not None:
            raise ValueError(
                f"reference {self.reference:g} is given: reference_optimizer trains nothing"
            )
        return self

    def run(self, run: Run) -> None:
        """Train the whole model, search, verify, compress; deliver what each of them found."""
        train, test = (self.task.load(split).to(run.device) for split in ("train", "test"))
        full = self._full(run, train, test)
        model = self._model(run)
        with run.region("build"):
            sketch = self.sketch.build_named(sizes(model), run.rng("sketch"), run.device)
        if self.first > sketch.shape[0]:
            raise ValueError(
                f"intrinsic-dimension: first {self.first} is more than {sketch.shape[0]}, "
                f"the D of '{self.sketch.name}'"
            )
        search = _Search(self, run, Subspace(model, sketch), sketch.shape, (train, test), full)
        found = search.descend(self.first, doubling=True)
        run.deliver("search", found)
        run.deliver("compression", partial(search.compressed, found.dimension))
        if not self.verify or not found.reached or found.dimension == 1:
            run.deliver("half", Missing("there is no D*/2, or it wasn't asked for"))
            return
        run.deliver("half", search.descend(found.dimension // 2, doubling=False))

    def _full(self, run: Run, train: Split, test: Split) -> float:
        if self.reference is not None:
            run.deliver("reference", Missing("the accuracy was given"))
            return self.reference
        model = self._model(run)
        fit(self, model, train, run, optimizer=self.reference_optimizer, purpose="reference")
        predictions = self.predict(model, test, FP32())
        run.deliver("reference", predictions)
        return Accuracy()(predictions)

    def _model(self, run: Run) -> nn.Module:
        """Return the model at θ₀: the same one each time."""
        with seeded(run.rng("weights")):
            model = self.model.build(self.task.shapes)
        FP32().place(model, run.device)
        return model


class _Search:
    """Descents in one subspace, each from ω = 0 and over the same batches."""

    def __init__(
        self,
        workload: IntrinsicDimensionSearch,
        run: Run,
        subspace: Subspace,
        shape: tuple[int, int],
        data: tuple[Split, Split],
        full: float,
    ) -> None:
        self._of, self._run, self._subspace = workload, run, subspace
        self._largest, self._size = shape
        self._train, self._test = data
        self._full, self._target = full, workload.share * full
        self._targets = self._train.targets.cpu()
        self.omega = nn.Parameter(torch.zeros(self._largest, device=run.device))

    def descend(self, dimension: int, doubling: bool) -> Descent:
        """Train from `dimension` on until the target is reached or steps run out.

        With `doubling`, d doubles as the listing says, steps are measured, and looks delivered.
        """
        of = self._of
        with torch.no_grad():
            self.omega.zero_()
        optimizer = of.optimizer.build([self.omega])
        rates = [group["lr"] for group in optimizer.param_groups]
        steps = max(1, len(self._targets) // of.size(len(self._targets)))
        last = best = self._look(0, doubling)
        step = 0
        augment = self._run.rng("augment")
        for step, (batch, final) in enumerate(_told_last(self._batches()), 1):
            at = batch.to(self._run.device)
            inputs = of.task.transform(self._train.inputs[at], augment, step - 1)
            inputs, targets = FP32().inputs(inputs), self._train.targets[at]
            self._run.watch(optimizer=optimizer, inputs=(inputs, targets))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * of.factor(step - 1, steps)
            with self._run.region("step") if doubling else nullcontext():
                loss = self._update(optimizer, inputs, targets, dimension)
            if not loss.isfinite():
                raise Diverged(f"the loss is {loss.item()} at step {step}, dimension {dimension}")
            if step % of.every and not final:
                continue
            accuracy = self._look(step, doubling)
            best = max(best, accuracy)
            if accuracy >= self._target:
                break
            if doubling and accuracy - last < of.improvement and dimension < self._largest:
                dimension = min(2 * dimension, self._largest)
                told = {"dimension": dimension, "accuracy": accuracy}
                self._run.deliver("search", Event("doubled", told), at=step)
            last = accuracy
        return Descent(
            dimension=dimension,
            largest=self._largest,
            size=self._size,
            steps=step,
            reached=best >= self._target,
            best=best,
            target=self._target,
            full=self._full,
        )

    def compressed(self, dimension: int) -> Compressed:
        """Return the model as it is now in codes of 1 to 8 bits a number, with training errors."""
        of, omega = self._of, self.omega.detach()
        dimensions = len(list(_doublings(of.first, self._largest)))
        bits, errors = [], []
        for width in WIDTHS:
            rounded = torch.zeros_like(omega)
            rounded[:dimension] = quantised(omega[:dimension], width)
            predictions = of.predict(self._subspace.place(rounded), self._train, FP32())
            bits.append(code_bits(dimension, width, dimensions))
            errors.append(1 - Accuracy()(predictions))
        chance = 1 - 1 / of.task.shapes.outputs
        return Compressed(tuple(bits), tuple(errors), len(self._targets), chance)

    def _batches(self) -> Iterator[Tensor]:
        """Yield the positions of each batch of the budget."""
        of, rng = self._of, self._run.rng("shuffle")
        batches = of.batches(self._targets, rng)
        for epoch in range(of.epochs):
            if epoch and of.batching == "shuffled":
                batches = of.batches(self._targets, rng)
            yield from batches

    def _update(
        self, optimizer: torch.optim.Optimizer, inputs: Tensor, targets: Tensor, dimension: int
    ) -> Tensor:
        of = self._of
        loss, found = self._subspace.gradient(
            of.gradient, self.omega, inputs, targets, of.task.loss
        )
        found[dimension:] = 0
        self.omega.grad = found
        optimizer.step()
        with torch.no_grad():
            self.omega[dimension:] = 0
        return loss

    def _look(self, step: int, delivered: bool) -> float:
        """Return the accuracy on the test split."""
        model = self._subspace.place(self.omega)
        predictions = self._of.predict(model, self._test, FP32())
        if delivered:
            self._run.deliver("test", predictions, at=step)
        return Accuracy()(predictions)


def _told_last(batches: Iterator[Tensor]) -> Iterator[tuple[Tensor, bool]]:
    """Yield each batch, and whether it is the last."""
    before = next(batches, None)
    for batch in batches:
        if before is not None:
            yield before, False
        before = batch
    if before is not None:
        yield before, True


def _doublings(first: int, largest: int) -> Iterator[int]:
    """Yield the dimensions that a search may come to."""
    while first < largest:
        yield first
        first *= 2
    yield largest
