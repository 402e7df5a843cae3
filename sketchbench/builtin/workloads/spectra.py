"""Spectra: the Kronecker factors of a model's gradients in training, and of Gaussian ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import Generator, Tensor, nn

from sketchbench import Diverged, Event, Field, Predictions, Run, Skip, Workload
from sketchbench.autodiff import Plain, seeded
from sketchbench.builtin.workloads.factors import Factor, FactorSpectra, looked_at
from sketchbench.builtin.workloads.loop import Training
from sketchbench.builtin.workloads.precision import FP32

BLOCK = 4096  # columns that the Gaussian control takes in at once


class SpectrumProbe(Training):
    """Train exactly, and follow the Kronecker factors of each matrix's gradients G (m, n).

    L = β₂L + GGᵀ (m, m) and R = β₂R + GᵀG (n, n), as full Shampoo would have them. Matrices are
    all parameters with two dimensions or more, flattened behind the first (a convolution's kernel
    is out × in·h·w), whose sides are both at least 2 and at most `max_size`. Outcome `factors`, at
    each checkpoint: their eigenvalues, and how far their leading spaces turned since the last.
    Outcomes `test` and `train` are the model's predictions there. Points are steps, from 1.
    Region `step` is forward and backward of one batch; factors and the update are outside.
    [Feinberg et al. 2023, Figure 3]
    """

    name = "spectrum-probe"
    outcomes = {"factors": FactorSpectra, "test": Predictions, "train": Predictions}

    beta2: float = Field(0.999, gt=0, le=1, description="β₂, the decay of the factors a step.")
    max_size: int = Field(1024, ge=2, description="Largest side of a matrix that is followed.")
    leading: int = Field(16, ge=1, description="Eigenvectors whose space is followed.")
    checkpoints: int = Field(4, ge=1, description="Evenly spaced looks, the last at the end.")

    def run(self, run: Run) -> None:
        """Train; deliver the outcomes at each checkpoint."""
        train, test = (self.task.load(split) for split in ("train", "test"))
        targets = train.targets
        train, test = train.to(run.device), test.to(run.device)
        with seeded(run.rng("weights")):
            model = self.model.build(self.task.shapes)
        arithmetic = FP32()
        arithmetic.place(model, run.device)
        factors = _Factors(model, self)
        if not factors.both:
            raise Skip(
                f"spectrum-probe: the model '{self.model.name}' has no matrix with sides up to "
                f"{self.max_size}"
            )
        optimizer = self.optimizer.build(model.parameters())
        run.watch(model=model, optimizer=optimizer)
        rates = [group["lr"] for group in optimizer.param_groups]
        augment = run.rng("augment")
        steps = max(1, len(targets) // self.size(len(targets)))
        looks = _spaced(self.epochs * steps, self.checkpoints)
        losses: list[Tensor] = []
        with seeded(run.rng("noise")):
            for step, batch in enumerate(self._order(targets, run.rng("shuffle"))):
                model.train()
                chosen = batch.to(run.device)
                inputs = self.task.transform(train.inputs[chosen], augment, step)
                wanted = train.targets[chosen]
                run.watch(inputs=(inputs, wanted))
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * self.factor(step, steps)
                with run.region("step"):
                    optimizer.zero_grad(set_to_none=True)
                    losses.append(Plain(model).accumulate(inputs, wanted, self.task.loss))
                factors.add(self.beta2)
                optimizer.step()
                if step + 1 not in looks:
                    continue
                mean = torch.stack(losses).double().mean().item()
                losses.clear()
                if not math.isfinite(mean):
                    raise Diverged(f"training loss is {mean} at step {step + 1}")
                run.deliver("training", Event("checkpoint", {"train_loss": mean}), at=step + 1)
                _deliver(run, looked_at(factors.both, self.leading), step + 1)
                predict = partial(self.predict, model, arithmetic=arithmetic)
                run.deliver("test", partial(predict, test), at=step + 1)
                run.deliver("train", partial(predict, train), at=step + 1)

    def _order(self, targets: Tensor, rng: Generator) -> Iterator[Tensor]:
        """Yield the positions (size,) of each batch of all epochs."""
        batches = self.batches(targets, rng)
        for epoch in range(self.epochs):
            if epoch and self.batching == "shuffled":
                batches = self.batches(targets, rng)
            yield from batches


class GaussianControl(Workload):
    """The factor of gradients without any structure: L = β₂L + GGᵀ of i.i.d. normal G (d, c).

    The paper's control, of which it has an intrinsic dimension of 324.63 (c = 1) and 862.13
    (c = 64) at d = 1024, β₂ = 0.999 and 10,000 draws. Outcome `factors` as in `spectrum-probe`.
    Region `step` is one block of draws. [Feinberg et al. 2023, Figure 3]
    """

    name = "gaussian-control"
    outcomes = {"factors": FactorSpectra}

    size: int = Field(128, ge=2, description="d, the rows of G.")
    columns: int = Field(1, ge=1, description="c, the columns of G.")
    beta2: float = Field(0.999, gt=0, le=1, description="β₂, the decay of the factor a draw.")
    steps: int = Field(10_000, ge=1, description="Draws of G.")
    leading: int = Field(16, ge=1, description="Eigenvectors whose space is followed.")
    checkpoints: int = Field(4, ge=1, description="Evenly spaced looks, the last at the end.")

    def run(self, run: Run) -> None:
        """Draw; deliver the outcome at each checkpoint."""
        rng = run.rng("draws")
        factor = Factor(self.size, self.leading, run.device)
        done = 0
        for look in sorted(_spaced(self.steps, self.checkpoints)):
            while done < look:
                count = min(max(1, BLOCK // self.columns), look - done)
                drawn = torch.randn(self.size, count * self.columns, generator=rng)
                drawn = drawn.to(run.device)
                # βⁿL + Σ β^(n−1−i) GᵢGᵢᵀ: n draws at once, each scaled by the root of its weight
                ages = torch.arange(count - 1, -1, -1, device=run.device)
                weights = (self.beta2 ** (ages / 2)).repeat_interleave(self.columns)
                with run.region("step"):
                    factor.absorb(drawn * weights, self.beta2**count)
                done += count
            _deliver(run, looked_at({"L": factor}, self.leading), done)


class _Factors:
    """The factors of each matrix of a model, `NAME L` (m, m) and `NAME R` (n, n)."""

    def __init__(self, model: nn.Module, workload: SpectrumProbe) -> None:
        self.both: dict[str, Factor] = {}
        self._matrices = _matrices(model, workload.max_size)
        for name, matrix in self._matrices.items():
            for side, size in zip("LR", matrix.flatten(1).shape, strict=True):
                self.both[f"{name} {side}"] = Factor(size, workload.leading, matrix.device)

    def add(self, decay: float) -> None:
        """Take in the gradients of all matrices; a matrix without one is left alone."""
        for name, matrix in self._matrices.items():
            if matrix.grad is not None:
                gradient = matrix.grad.detach().flatten(1)
                self.both[f"{name} L"].absorb(gradient, decay)
                self.both[f"{name} R"].absorb(gradient.mT, decay)


def _deliver(run: Run, spectra: FactorSpectra, at: int) -> None:
    """Deliver every factor's numbers as events, then the outcome."""
    told = {
        "intrinsic dimension": spectra.intrinsic(),
        f"mass of the leading {spectra.leading}": spectra.mass(spectra.leading),
        "rotation since the last checkpoint": dict(
            zip(spectra.names, spectra.rotation, strict=True)
        ),
    }
    for what, values in told.items():
        finite = {name: v for name, v in values.items() if math.isfinite(v)}
        if finite:
            run.deliver("factors", Event(what, finite), at=at)
    run.deliver("factors", spectra, at=at)


def _matrices(model: nn.Module, largest: int) -> dict[str, nn.Parameter]:
    """Return the parameters that are matrices with sides from 2 to `largest`, by name."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and _fits(parameter.flatten(1).shape, largest)
    }


def _fits(sides: Iterable[int], largest: int) -> bool:
    return all(2 <= side <= largest for side in sides)


def _spaced(total: int, count: int) -> set[int]:
    """Return `count` evenly spaced steps of 1 … total, the last among them."""
    return {max(1, round(total * i / count)) for i in range(1, count + 1)}
