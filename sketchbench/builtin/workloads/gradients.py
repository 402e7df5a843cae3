"""Gradient quality: a sketch's gradients beside the exact ones of the same batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Literal

import torch

from sketchbench import (
    ActivationSketch,
    Approximation,
    Diverged,
    Field,
    GradientSample,
    Run,
    SketchedModel,
    Skip,
    Spectra,
    Split,
)
from sketchbench.autodiff import Plain, Scope, flatten, linear_layers, replaced, seeded
from sketchbench.builtin.workloads.loop import Training, evaluating
from sketchbench.builtin.workloads.moments import Moments
from sketchbench.builtin.workloads.precision import FP32

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

Form = Literal["exact", "sketch"]
Batch = tuple["Tensor", "Tensor"]


class GradientQuality(Training):
    """Compare a sketch's gradients with exact ones: at frozen weights, and along training.

    Training comes first: `steps` of it, or all of `epochs`. Then the weights are frozen, and both
    gradients are had of `samples` batches; `shuffled` ones are drawn independently of one another,
    others go on as in training. A sketch sees each batch once. While training is exact it sees
    none, unless there are probes: then it has followed every step.

    Gradients are those of the weights of linear layers in `scope`, as one vector. Outcome
    `gradients`: both, over the frozen batches. Outcome `probe`: both of one training batch, at its
    step (from 0). Outcome `inputs`: the singular values of what enters these layers, of the last
    frozen batch, in evaluation. Dropout draws the same masks in both passes. A sketch is never
    told of an epoch's end: ranks stay. Region `step` is forward and backward of the sketched
    model, without the update.
    """

    name = "gradient-quality"
    regions = ("step",)
    outcomes = {"gradients": GradientSample, "probe": Approximation, "inputs": Spectra}

    activation: ActivationSketch | None = Field(
        description="The sketch under test; null compares exact gradients with themselves."
    )
    steps: int | None = Field(
        None,
        ge=0,
        description=(
            "Training steps before measuring; null takes all of `epochs`. Beyond them, schedule "
            "`cosine` stays at its last rate."
        ),
    )
    train_with: Form = Field(
        "exact", description="Which gradient trains the model before it is frozen."
    )
    burn_in: int = Field(
        0, ge=0, description="Frozen batches that the sketch sees before those measured."
    )
    samples: int = Field(100, ge=2, description="Frozen batches measured.")
    scope: Scope = Field(
        "all", description="Linear layers compared: all, hidden (all but the first), or names."
    )
    probe_every: int = Field(
        0, ge=0, description="Training steps from one probe to the next; 0 probes never."
    )

    def run(self, run: Run) -> None:
        """Train, freeze, measure; raise `Skip` for a model without linear layers in scope."""
        data = self.task.load("train")
        targets, data = data.targets, data.to(run.device)
        with seeded(run.rng("weights")):
            model = self.model.build(self.task.shapes)
        FP32().place(model, run.device)
        forms = _Forms(model, self, run, len(targets))
        order = self._order(targets, run.rng("shuffle"))
        augment = run.rng("augment")
        with seeded(run.rng("noise")):  # what a model itself draws: dropout
            step = self._train(forms, data, order, augment)
            if self.batching == "shuffled":
                order = self._independent(len(targets), run.rng("frozen"))
            moments = Moments()
            for index in range(self.burn_in + self.samples):
                batch = self._gathered(data, next(order), augment, step + index)
                if index < self.burn_in:
                    forms.step(batch, "sketch")
                else:
                    moments.add(*forms.both(batch, last="sketch"))
        loss = forms.loss.item()
        if not math.isfinite(loss):
            raise Diverged(f"the loss is {loss} after {step} training steps")
        run.deliver("gradients", moments.sample)
        run.deliver("inputs", partial(forms.spectra, batch[0]))

    def _train(
        self, forms: _Forms, data: Split, order: Iterator[Tensor], augment: Generator
    ) -> int:
        """Train, deliver the probes, and return the number of steps."""
        optimizer = self.optimizer.build(forms.model.parameters())
        forms.run.watch(model=forms.model, optimizer=optimizer)
        rates = [group["lr"] for group in optimizer.param_groups]
        per_epoch = max(1, len(data.inputs) // self.size(len(data.inputs)))
        steps = self.epochs * per_epoch if self.steps is None else self.steps
        for step in range(steps):
            batch = self._gathered(data, next(order), augment, step)
            if self.probe_every and step % self.probe_every == 0:
                sketched, exact = forms.both(batch, last=self.train_with)
                forms.run.deliver("probe", Approximation(exact, sketched), at=step)
            elif self.probe_every and self.train_with == "exact":
                forms.step(batch, "sketch", "exact")
            else:
                forms.step(batch, self.train_with)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * self.factor(step, per_epoch)
            optimizer.step()
        return steps

    def _order(self, targets: Tensor, rng: Generator) -> Iterator[Tensor]:
        """Yield the positions (size,) of each training batch, without end."""
        batches = self.batches(targets, rng)
        while True:
            yield from batches
            if self.batching == "shuffled":
                batches = self.batches(targets, rng)

    def _independent(self, count: int, rng: Generator) -> Iterator[Tensor]:
        """Yield positions (size,), distinct within a batch, independent of other batches."""
        while True:
            yield torch.randperm(count, generator=rng)[: self.size(count)]

    def _gathered(self, data: Split, chosen: Tensor, augment: Generator, step: int) -> Batch:
        chosen = chosen.to(data.inputs.device)
        inputs = self.task.transform(data.inputs[chosen], augment, step)
        return inputs, data.targets[chosen]


class _Forms:
    """A model in its exact and in its sketched form, over the same parameters."""

    def __init__(self, model: nn.Module, workload: GradientQuality, run: Run, count: int) -> None:
        names = linear_layers(model, workload.scope)
        if not names:
            raise Skip(
                f"gradient-quality: the model has no linear layer in scope '{workload.scope}'"
            )
        self.run = run
        self.loss = torch.zeros(())
        self._task = workload.task
        self._names = names
        weights = (model.get_parameter(f"{name}.weight") for name in names)
        self._weights = list({id(weight): weight for weight in weights}.values())
        self._twin = _twin(model)
        sketched: SketchedModel = Plain(model)
        if workload.activation:
            sketched = workload.activation.build(model, workload.size(count), run.rng("activation"))
        self.model = sketched.model.train()
        self._forms: dict[Form, SketchedModel] = {"exact": Plain(self._twin), "sketch": sketched}

    def step(self, batch: Batch, *forms: Form) -> list[Tensor]:
        """Run forms one after another, all with the same random draws; leave the last's gradients.

        Returns the compared gradient (P,) of each, where there are several.
        """
        self.run.watch(inputs=batch)
        found = []
        for form in forms:
            self.model.zero_grad(set_to_none=True)
            again = self._draws_again() if form != forms[-1] else nullcontext()
            with again, self.run.region("step") if form == "sketch" else nullcontext():
                self.loss = self._forms[form].accumulate(*batch, self._task.loss)
            if forms[1:]:
                found.append(flatten(_gradient(weight) for weight in self._weights))
        return found

    def both(self, batch: Batch, last: Form) -> tuple[Tensor, Tensor]:
        """Return the sketched and the exact gradient (P,) of a batch; leave those of `last`."""
        if last == "sketch":
            exact, sketched = self.step(batch, "exact", "sketch")
        else:
            sketched, exact = self.step(batch, "sketch", "exact")
        return sketched, exact

    def spectra(self, inputs: Tensor) -> Spectra:
        """Return the singular values of what enters each layer compared, its rows flattened."""
        found: list[Tensor] = []

        def keep(module: nn.Module, entering: tuple[Tensor, ...]) -> None:
            rows = entering[0].detach().flatten(0, -2).double()
            found.append(torch.linalg.svdvals(rows))

        layers = [self._twin.get_submodule(name) for name in self._names]
        handles = [layer.register_forward_pre_hook(keep) for layer in layers]
        with evaluating(self._twin):
            self._twin(inputs)
        for handle in handles:
            handle.remove()
        return Spectra(tuple(found))

    def _draws_again(self) -> AbstractContextManager[None]:
        device = self.run.device
        return torch.random.fork_rng([device] if device.type == "cuda" else [])


def _twin(model: nn.Module) -> nn.Module:
    """Return a structural copy in training mode: its parameters are shared, its buffers its own."""
    twin = replaced(model, {})
    for module in twin.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.clone())
    return twin.train()


def _gradient(weight: Tensor) -> Tensor:
    return torch.zeros_like(weight) if weight.grad is None else weight.grad
