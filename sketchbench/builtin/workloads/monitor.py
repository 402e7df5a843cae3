"""Monitoring: exact training that goes well or badly, and a monitor that watches it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, Self

import torch
from pydantic import model_validator
from torch._subclasses.fake_tensor import FakeTensor

from sketchbench import Event, Field, Missing, Monitor, Predictions, Run, Trace
from sketchbench.autodiff import Plain, linear_layers, seeded
from sketchbench.builtin.workloads.loop import Training
from sketchbench.builtin.workloads.precision import FP32

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn


class Monitored(Training):
    """Train exactly while a monitor watches; judge what it says by the exact gradient norms.

    Region `step` is forward, backward, the monitor's reading and the update of one batch; without
    a monitor it is what its overhead is measured against. Exact norms, of the gradients before the
    update, are computed outside unless it overwrites them (`_Truth`; an event says so), with and
    without a monitor, so that caches are left alike. A monitor with a period of n observes the
    first of every n steps. A layer without a gradient has the norm NaN.

    Conditions: in `vanishing` and `exploding` runs the weights of all linear layers are scaled
    before the first step, the fault's onset; in a `spike` the learning rate is `spike_factor`
    times as high for one epoch. The first loss or gradient that isn't finite ends the trace, and
    training at that epoch's end, without failing: an event says so, and predictions are missing.
    """

    name = "monitor"
    regions = ("step",)
    outcomes = {"trace": Trace, "test": Predictions}

    monitor: Monitor | None = Field(None, description="What watches; null is the same run alone.")
    start: Literal["he", "model"] = Field(
        "he",
        description="Weights of linear layers: normal of variance 2/width, biases zero "
        "[He et al. 2015]; or as the model makes them.",
    )
    condition: Literal["healthy", "vanishing", "exploding", "spike"] = Field(
        "healthy", description="What is done to it, if anything."
    )
    vanishing_scale: float = Field(
        0.1**0.5, gt=0, lt=1, description="Factor of the weights in condition `vanishing`."
    )
    exploding_scale: float = Field(
        2.0, gt=1, description="Factor of the weights in condition `exploding`."
    )
    onset: int = Field(1, ge=0, description="Epochs before the one with the spike.")

    @model_validator(mode="after")
    def _spike_is_in_time(self) -> Self:
        if self.condition == "spike" and self.onset >= self.epochs:
            raise ValueError(
                f"onset {self.onset} must be below epochs {self.epochs}: "
                "after the last epoch there is nothing to raise"
            )
        return self

    def run(self, run: Run) -> None:
        """Train; deliver an event and predictions after each epoch, and the trace at the end."""
        train, test = (self.task.load(split) for split in ("train", "test"))
        targets = train.targets
        train, test = train.to(run.device), test.to(run.device)
        with seeded(run.rng("weights")):
            model = self.model.build(self.task.shapes)
        self._begin(model, run.rng("start"))
        model.to(run.device)
        optimizer = self.optimizer.build(model.parameters())
        size = self.size(len(train.inputs))
        watcher = self.monitor.build(model, size, run.rng("monitor")) if self.monitor else _Nobody()
        every = self.monitor.full_period() if self.monitor else 1
        run.watch(model=model, optimizer=optimizer)
        rates = [group["lr"] for group in optimizer.param_groups]
        shuffle, augment = run.rng("shuffle"), run.rng("augment")
        batches, plain = self.batches(targets, shuffle), Plain(model)
        layers = watcher.layers or linear_layers(model, "all")
        truth = _Truth([model.get_parameter(f"{name}.weight") for name in layers])
        steps, step, said = len(batches), 0, _Said(layers)

        with seeded(run.rng("noise")):
            for epoch in range(1, self.epochs + 1):
                if epoch > 1 and self.batching == "shuffled":
                    batches = self.batches(targets, shuffle)
                model.train()
                for batch in batches:
                    chosen = batch.to(run.device)
                    inputs = self.task.transform(train.inputs[chosen], augment, step)
                    wanted = train.targets[chosen]
                    run.watch(inputs=(inputs, wanted))
                    for group, rate in zip(optimizer.param_groups, rates, strict=True):
                        group["lr"] = rate * self.factor(step, steps)
                    observed = step % every == 0
                    watcher.observe(observed)
                    with run.region("step"):
                        optimizer.zero_grad(set_to_none=True)
                        loss = plain.accumulate(inputs, wanted, self.task.loss)
                        estimates = watcher.estimates() if observed else {}
                        truth.hold(step)
                        optimizer.step()
                    said.add(step, truth.read(step), loss, estimates if observed else None)
                    step += 1
                last = said.last(steps)
                if last is not None:
                    run.deliver("epoch", Event("ended", {"step": last}), at=epoch)
                    run.deliver("test", Missing(f"not finite from step {last} on"))
                    break
                mean = torch.stack(said.losses[-steps:]).double().mean().item()
                details = {"train_loss": mean, "lr": float(optimizer.param_groups[0]["lr"])}
                run.deliver("epoch", Event("epoch", details), at=epoch)
                run.deliver("test", partial(self.predict, model, test, FP32()), at=epoch)
        watcher.close()
        if truth.since is not None:
            run.deliver("epoch", Event("overwritten", {"step": truth.since}))
        trace = partial(said.trace, self._fault(steps), steps, watcher.held())
        run.deliver("trace", trace if self.monitor else Missing("nothing watches"))

    def factor(self, step: int, steps: int) -> float:
        """Return the factor of the learning rate at `step`, with `steps` an epoch."""
        spiked = self.condition == "spike" and step // steps == self.onset
        return super().factor(step, steps) * (self.spike_factor if spiked else 1.0)

    @torch.no_grad()
    def _begin(self, model: nn.Module, rng: Generator) -> None:
        """Give every linear layer the weights that it starts with."""
        scale = {"vanishing": self.vanishing_scale, "exploding": self.exploding_scale}
        for name in linear_layers(model, "all"):
            weight, bias = (getattr(model.get_submodule(name), part) for part in ("weight", "bias"))
            if self.start == "he":
                weight.normal_(0, (2 / weight.shape[1]) ** 0.5, generator=rng)
                if bias is not None:
                    bias.zero_()
            weight *= scale.get(self.condition, 1.0)

    def _fault(self, steps: int) -> tuple[str, int] | None:
        """Return what is done to the training, and at which step that begins."""
        if self.condition == "healthy":
            return None
        return self.condition, self.onset * steps if self.condition == "spike" else 0


class _Nobody:
    """Watches nothing, for the run without a monitor."""

    layers = ()

    def observe(self, on: bool) -> None:
        pass

    def estimates(self) -> Mapping[str, Tensor]:
        return {}

    def held(self) -> int:
        return 0

    def close(self) -> None:
        pass


class _Truth:
    """The exact gradient norms of each step, of the gradients as they were before the update.

    They are read after it, outside the timed region, as long as it leaves the gradients alone,
    which nearly every optimizer does. Some don't: SGD with `nesterov` and `foreach`, the default on
    CUDA, adds momentum to them in place. Those are read before the update, in the region: a price
    of the exact norms that the run without a monitor pays, too. To find out, the first step, of
    the warm-up that isn't counted, is read on both sides. Later, versions tell: an optimizer that
    begins then has no norms for that step. A first write through `.data`, then, isn't seen.
    """

    def __init__(self, weights: Sequence[Tensor]) -> None:
        self.since: int | None = None  # the first step whose update overwrote a gradient
        self._weights = weights
        self._grads: list[Tensor | None] = []  # of the step between `hold` and `read`
        self._versions: list[int] = []
        self._early: Tensor | None = None

    def hold(self, step: int) -> None:
        """Note the gradients before the update; read them where that can't wait."""
        self._grads = [weight.grad for weight in self._weights]
        self._versions = [_version(grad) for grad in self._grads]
        self._early = self._norms() if step == 0 or self.since is not None else None

    def read(self, step: int) -> tuple[Tensor, list[bool]]:
        """Return the norms (layers,), and of which layers there is none: theirs are NaN."""
        if self._early is not None:
            norms = self._early
            if self.since is None and _differ(norms, self._norms()):
                self.since = step
        else:
            old = zip(self._grads, self._versions, strict=True)
            kept = [grad if _version(grad) == version else None for grad, version in old]
            if any(grad is not same for grad, same in zip(self._grads, kept, strict=True)):
                self.since, self._grads = step, kept
            norms = self._norms()
        absent = [grad is None for grad in self._grads]
        self._grads, self._early = [], None
        return norms, absent

    def _norms(self) -> Tensor:
        norms = [
            weight.new_full((), math.nan, dtype=torch.float64)
            if grad is None
            else torch.linalg.vector_norm(grad, dtype=torch.float64)
            for weight, grad in zip(self._weights, self._grads, strict=True)
        ]
        return torch.stack(norms)


def _version(grad: Tensor | None) -> int:
    return -1 if grad is None else grad._version


def _differ(before: Tensor, after: Tensor) -> bool:
    """Whether norms aren't the same to the bit; those of a prediction, without values, are."""
    if isinstance(before, FakeTensor):
        return False
    return not torch.equal(before.nan_to_num(nan=-1.0), after.nan_to_num(nan=-1.0))


class _Said:
    """What was said of each step, and what is true of it."""

    def __init__(self, layers: tuple[str, ...]) -> None:
        self.layers = layers
        self.losses: list[Tensor] = []  # of every step
        self._norms: list[Tensor] = []
        self._absent: list[list[bool]] = []  # norms that there are none of
        self._estimates: dict[int, Mapping[str, Tensor]] = {}  # of the steps observed

    def add(
        self,
        step: int,
        truth: tuple[Tensor, list[bool]],
        loss: Tensor,
        estimates: Mapping[str, Tensor] | None,
    ) -> None:
        """Note a step, with its estimates if it was observed."""
        norms, absent = truth
        self.losses.append(loss)
        self._norms.append(norms)
        self._absent.append(absent)
        if estimates is not None:
            self._estimates[step] = estimates

    def last(self, steps: int) -> int | None:
        """Return the first step, of the last `steps`, that isn't finite, and forget those after.

        Gradients that are absent are no reason.
        """
        losses, norms = torch.stack(self.losses[-steps:]), torch.stack(self._norms[-steps:])
        absent = torch.tensor(self._absent[-steps:], device=norms.device)
        finite = losses.isfinite() & (norms.isfinite() | absent).all(dim=1)
        if bool(finite.all()):
            return None
        last = len(self.losses) - steps + int(finite.int().argmin())
        self._estimates = {at: said for at, said in self._estimates.items() if at <= last}
        return last

    def trace(self, fault: tuple[str, int] | None, steps_per_epoch: int, held: int) -> Trace:
        """Return the outcome, on the CPU and in double precision."""
        at, estimates = list(self._estimates), list(self._estimates.values())
        kind, onset = fault or (None, None)
        return Trace(
            layers=self.layers,
            at=torch.tensor(at),
            estimates={name: _stacked([each[name] for each in estimates]) for name in estimates[0]},
            truth=_stacked([self._norms[step] for step in at]),
            losses=_stacked([self.losses[step] for step in at]),
            steps_per_epoch=steps_per_epoch,
            fault=kind,
            onset=onset,
            held=held,
        )


def _stacked(tensors: list[Tensor]) -> Tensor:
    return torch.stack(tensors).double().cpu()
