"""Hessian spectrum: what curvature a model has along training, through a gradient sketch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal, Self

import torch
from pydantic import model_validator

from sketchbench import Diverged, Event, Field, GradientSketch, Predictions, Run, Task
from sketchbench.autodiff import Plain, seeded
from sketchbench.builtin.workloads.loop import Training
from sketchbench.builtin.workloads.outlying import Looked, LooksAt, Nulls
from sketchbench.builtin.workloads.precision import FP32
from sketchbench.curvature import (
    Curvature,
    Kind,
    Krylov,
    Sketched,
    curvature,
    density,
    gradient,
    lanczos,
    random_vector,
    sizes,
    trace,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor, nn

    from sketchbench import LinearSketch, Split

PRECISIONS = {"float32": torch.float32, "float64": torch.float64}


class HessianSpectrum(Training):
    """Train exactly, and take the spectrum of the loss's curvature on a fixed batch.

    The matrix A (N, N) is seen through a sketch S (D, N): Lanczos with full reorthogonalisation
    on v -> S(A(Sᵀv)), whose basis is of D·m numbers instead of N·m; null takes A itself. A is the
    Hessian of the mean loss, or what `operator` says, of `examples` training examples, drawn once,
    not augmented, in evaluation mode. Outcome `spectrum` is the spectrum, at each step in `at`;
    outcome `test` has the model's predictions there. `pretrain` is learnt first, from the same
    initial weights, with an optimizer of its own; steps are counted from its end.

    Region `step` is one spectrum by Lanczos, `build` the draw of the sketch; training, references,
    the smaller sketch and nulls are outside. [arXiv 2402.03994, §2, §5.5]
    """

    name = "hessian-spectrum"
    regions = ("build", "step")
    outcomes = {"spectrum": Looked, "test": Predictions}

    sketch: GradientSketch | None = Field(description="S; null is Lanczos in the full space.")
    operator: Kind = Field(
        "hessian",
        description=(
            "A: hessian; ggn (generalised Gauss-Newton); fisher (of a softmax, exact); or "
            "empirical-fisher (second moment of the examples' gradients)."
        ),
    )
    layers: str = Field(
        "*", description="Parameters of A: a glob of their names, or of their modules'."
    )
    at: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), description="Steps after which to look, 0 being the start; none looks at the end."
    )
    krylov: int = Field(40, ge=2, description="m, Lanczos steps.")
    examples: int = Field(128, ge=1, description="Training examples that A is of.")
    chunk: int | None = Field(
        None, ge=1, description="Examples differentiated at once; null is all, faster and larger."
    )
    precision: Literal["float32", "float64"] = Field(
        "float32", description="Arithmetic of A, S and the basis; training is in float32."
    )
    exact: bool = Field(
        False, description="Whether A itself is looked at too, for scores of the sketch's error."
    )
    floor_divisor: int | None = Field(
        None,
        ge=2,
        description=(
            "Take the spectrum through S of D / this as well, which tells the noise floor; nothing "
            "without a sketch."
        ),
    )
    above: float = Field(
        0.2, gt=0, lt=1, description="Share of the largest eigenvalue that makes an outlier."
    )
    nulls: int = Field(8, ge=1, description="Random vectors and permuted gradients drawn.")
    probes: int = Field(0, ge=0, description="Krylov spaces for the density; 0 leaves it out.")
    trace_products: int = Field(
        0, ge=0, description="Products for the trace, 6 or more; 0 leaves it out."
    )
    pretrain: Task | None = Field(None, description="What is learnt before; null is nothing.")
    pretrain_epochs: int = Field(1, ge=1, description="Passes over it.")

    @model_validator(mode="after")
    def _looks_are_whole(self) -> Self:
        if list(self.at) != sorted(set(self.at)):
            raise ValueError(f"at {list(self.at)} doesn't increase")
        if 0 < self.trace_products < 6:
            raise ValueError(f"trace_products {self.trace_products} must be 0, or 6 or more")
        if self.pretrain and self.pretrain.shapes != self.task.shapes:
            raise ValueError(
                f"pretrain '{self.pretrain.name}' has shapes {self.pretrain.shapes}, task "
                f"'{self.task.name}' has {self.task.shapes}; they must be the same"
            )
        if self.floor_divisor and self.sketch and not hasattr(self.sketch, "out_size"):
            raise ValueError(f"floor_divisor: sketch '{self.sketch.name}' has no out_size")
        return self

    def run(self, run: Run) -> None:
        """Train, and look; raise `ValueError` for a look beyond the last step."""
        train, test = (self.task.load(split) for split in ("train", "test"))
        with seeded(run.rng("weights")):
            model = self.model.build(self.task.shapes)
        arithmetic = FP32()
        arithmetic.place(model, run.device)
        if self.pretrain:
            before = self.model_copy(update={"task": self.pretrain, "epochs": self.pretrain_epochs})
            first = self.pretrain.load("train")
            *_, (step, loss) = before.trained(run, model, first, "pretrain")
            _finite(loss, step, "pretraining")
        view = _View(self, run, model, train)
        steps = self.epochs * (len(train.targets) // self.size(len(train.targets)))
        looks = self.at or (steps,)
        if looks[-1] > steps:
            raise ValueError(
                f"hessian-spectrum: at {looks[-1]} is beyond the last step, {steps}; raise epochs"
            )
        test = test.to(run.device)
        predict = partial(self.predict, model, test, arithmetic)
        for step, loss in self.trained(run, model, train, "train"):
            if step in looks:
                _finite(loss, step, "training")
                look = view.look(step)
                run.deliver("spectrum", Event("spectrum", look.told()), at=step)
                run.deliver("spectrum", look, at=step)
                run.deliver("test", predict, at=step)
            if step == looks[-1]:
                break

    def trained(
        self, run: Run, model: nn.Module, data: Split, purpose: str
    ) -> Iterator[tuple[int, Tensor]]:
        """Train `model` in place; yield the number of steps made and the last loss, from 0 on."""
        targets, data = data.targets, data.to(run.device)
        optimizer = self.optimizer.build(model.parameters())
        run.watch(model=model, optimizer=optimizer)
        rates = [group["lr"] for group in optimizer.param_groups]
        shuffle, augment = run.rng(f"{purpose}/shuffle"), run.rng(f"{purpose}/augment")
        noise = run.rng(f"{purpose}/noise")
        plain, step = Plain(model), 0
        yield step, torch.zeros(())
        for epoch in range(self.epochs):
            if not epoch or self.batching == "shuffled":
                batches = self.batches(targets, shuffle)
            for batch in batches:
                model.train()
                chosen = batch.to(run.device)
                inputs = self.task.transform(data.inputs[chosen], augment, step)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * self.factor(step, len(batches))
                optimizer.zero_grad(set_to_none=True)
                with seeded(noise):
                    loss = plain.accumulate(inputs, data.targets[chosen], self.task.loss)
                optimizer.step()
                step += 1
                yield step, loss


@dataclass
class _View:
    """What every look has in common: the examples, the sketches."""

    workload: HessianSpectrum
    run: Run
    model: nn.Module
    data: Split

    def __post_init__(self) -> None:
        workload, run = self.workload, self.run
        count = len(self.data.targets)
        chosen = torch.randperm(count, generator=run.rng("examples"))[: workload.examples]
        self.inputs = FP32().inputs(self.data.inputs[chosen]).to(run.device)
        self.targets = self.data.targets[chosen].to(run.device)
        self.dtype = PRECISIONS[workload.precision]
        self.names = sizes(self.model, workload.layers)
        self.sketch: LinearSketch | None = None
        self.smaller: LinearSketch | None = None
        if workload.sketch:
            with run.region("build"):
                self.sketch = workload.sketch.build_named(self.names, run.rng("sketch"), run.device)
        if workload.sketch and workload.floor_divisor:
            smaller = _divided(workload.sketch, workload.floor_divisor)
            rng = run.rng("sketch/smaller")
            self.smaller = smaller.build_named(self.names, rng, run.device)

    def look(self, step: int) -> Looked:
        """Return the spectrum of the model as it is now."""
        workload, run, model = self.workload, self.run, self.model
        training = model.training
        model.eval()  # its modules are all put back in training by the next step
        common = (model, workload.task.loss, self.inputs, self.targets, workload.layers, self.dtype)
        matrix = curvature(workload.operator, *common, workload.chunk)
        with run.region("step"):
            found = self._spectrum(matrix, self.sketch)
        reference = None
        if workload.exact:
            reference = self._spectrum(matrix, None) if self.sketch else found
        slope = gradient(*common)
        model.train(training)
        nulls = Nulls(self.sketch, workload.nulls, run.rng(f"nulls/{step}"))
        product, like = self._through(matrix, self.sketch)
        rng = run.rng(f"density/{step}")
        return Looked(
            size=matrix.size,
            out_size=None if self.sketch is None else self.sketch.shape[0],
            classes=workload.task.shapes.outputs,
            seen=LooksAt.of(found),
            exact=LooksAt.of(reference) if reference else None,
            smaller=LooksAt.of(self._spectrum(matrix, self.smaller)) if self.smaller else None,
            divisor=workload.floor_divisor,
            basis_bytes=found.basis_bytes,
            above=workload.above,
            shares=nulls.shares(slope, found, workload.above),
            density=(
                density(product, like, workload.krylov, workload.probes, rng)
                if workload.probes
                else None
            ),
            trace=trace(product, like, workload.trace_products, rng)
            if workload.trace_products
            else None,
        )

    def _spectrum(self, matrix: Curvature, sketch: LinearSketch | None) -> Krylov:
        product, like = self._through(matrix, sketch)
        rng = self.run.rng("lanczos")
        first = random_vector(len(like), rng, like.dtype, like.device)
        return lanczos(product, first, self.workload.krylov, rng)

    def _through(
        self, matrix: Curvature, sketch: LinearSketch | None
    ) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """Return products with the matrix as seen through a sketch, and an empty vector of it."""
        size = matrix.size if sketch is None else sketch.shape[0]
        like = torch.empty(size, dtype=matrix.dtype, device=matrix.device)
        return (matrix if sketch is None else Sketched(matrix, sketch)), like


def _divided(sketch: GradientSketch, divisor: int) -> GradientSketch:
    """Return the same sketch of a smaller D; a `ValueError` says where it can't be had."""
    smaller = sketch.out_size // divisor  # type: ignore[attr-defined]
    return type(sketch).model_validate({**sketch.config(), "out_size": smaller})


def _finite(loss: Tensor, step: int, where: str) -> None:
    """Raise `Diverged` for a loss that isn't finite."""
    if not math.isfinite(loss.item()):
        raise Diverged(f"the loss is {loss.item()} at step {step} of {where}")
