"""Coherence: how far an average over time is from the activations of the moment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch

from sketchbench import Diverged, Event, Field, Missing, Run, Score, Skip
from sketchbench.autodiff import Plain, linear_layers, seeded
from sketchbench.builtin.workloads.loop import Training, evaluating

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Distances:
    """Outcome: ‖A_t − M_t‖ / ‖A_t‖ (steps, layers) of layer inputs A_t and their average M_t."""

    layers: tuple[str, ...]
    relative: Tensor


class Incoherence(Score):
    """Median over steps and layers of ‖A_t − M_t‖ / ‖A_t‖: 0 where an average says it all."""

    name = "incoherence"
    consumes = Distances
    unit = "fraction"
    direction = "lower"
    margin = 0.01

    def __call__(self, outcome: Distances) -> float:
        """Return the median of all finite distances; raise `Missing` where there are none."""
        found = outcome.relative[outcome.relative.isfinite()]
        if not len(found):
            raise Missing("no distance is finite: every layer's inputs are 0 or not finite")
        return found.quantile(0.5).item()


class Coherence(Training):
    """Train exactly, and follow an exponential average of each linear layer's inputs.

    M_t = βM_{t−1} + (1−β)A_t, over its mass 1 − βᵗ; nothing is sketched. Outcome `batch` has the
    training batch's inputs for A_t: the rows of two steps are different examples unless batches
    are full, so the distance is of samples and of weights. Outcome `probe` has those of the same
    `probe_rows` training examples at each step, in evaluation mode and without augmentation:
    of weights alone. Each epoch's distances are delivered, at last those of all epochs. Region
    `step` is forward, backward and update of one batch; averages and the probe are outside.
    """

    name = "coherence"
    outcomes = {"batch": Distances, "probe": Distances}

    beta: float = Field(0.95, ge=0, lt=1, description="β, the momentum of the average.")
    probe_rows: int = Field(128, ge=1, description="Training examples of the probe batch.")

    def run(self, run: Run) -> None:
        """Train; deliver both outcomes after each epoch, and over all epochs at the end."""
        train = self.task.load("train")
        targets, train = train.targets, train.to(run.device)
        with seeded(run.rng("weights")):
            model = self.model.build(self.task.shapes).to(run.device)
        layers = linear_layers(model, "all")
        if not layers:
            raise Skip(f"coherence: the model '{self.model.name}' has no linear layer")
        optimizer = self.optimizer.build(model.parameters())
        run.watch(model=model, optimizer=optimizer)
        rates = [group["lr"] for group in optimizer.param_groups]
        shuffle, augment = run.rng("shuffle"), run.rng("augment")
        batches = self.batches(targets, shuffle)
        probe = train.inputs[self._probe(len(targets), run)]
        averages = {name: _Averages(self.beta, layers) for name in self.outcomes}
        history: dict[str, list[Tensor]] = {name: [] for name in self.outcomes}
        step, steps = 0, len(batches)

        with seeded(run.rng("noise")):
            for epoch in range(1, self.epochs + 1):
                if epoch > 1 and self.batching == "shuffled":
                    batches = self.batches(targets, shuffle)
                model.train()
                losses = []
                found: dict[str, list[Tensor]] = {name: [] for name in self.outcomes}
                for batch in batches:
                    chosen = batch.to(run.device)
                    inputs = self.task.transform(train.inputs[chosen], augment, step)
                    wanted = train.targets[chosen]
                    run.watch(inputs=(inputs, wanted))
                    scale = self.factor(step, steps)
                    for group, rate in zip(optimizer.param_groups, rates, strict=True):
                        group["lr"] = rate * scale
                    with evaluating(model), _inputs(model, layers) as seen:
                        model(probe)
                    found["probe"].append(averages["probe"].distances(seen))
                    with _inputs(model, layers) as seen, run.region("step"):
                        optimizer.zero_grad(set_to_none=True)
                        losses.append(Plain(model).accumulate(inputs, wanted, self.task.loss))
                        optimizer.step()
                    found["batch"].append(averages["batch"].distances(seen))
                    step += 1
                mean = torch.stack(losses).double().mean().item()
                if not math.isfinite(mean):
                    raise Diverged(f"training loss is {mean} at epoch {epoch}")
                details = {"train_loss": mean, "lr": float(optimizer.param_groups[0]["lr"])}
                run.deliver("epoch", Event("epoch", details), at=epoch)
                for name, rows in found.items():
                    outcome = Distances(layers, torch.stack(rows).cpu())
                    history[name].append(outcome.relative)
                    run.deliver(name, Event("medians a layer", _medians(outcome)), at=epoch)
                    run.deliver(name, outcome, at=epoch)
        for name, parts in history.items():
            run.deliver(name, partial(Distances, layers, torch.cat(parts)))

    def _probe(self, count: int, run: Run) -> Tensor:
        """Return the positions of the probe's examples, drawn uniformly, on the run's device."""
        order = torch.randperm(count, generator=run.rng("probe"))
        return order[: self.probe_rows].to(run.device)


class _Averages:
    """Exponential averages of each layer's inputs over time."""

    def __init__(self, beta: float, layers: Sequence[str]) -> None:
        self._beta, self._layers = beta, layers
        self._mass = 0.0  # 1 − βᵗ
        self._sums: list[Tensor] = []  # a layer: Σ (1−β)β^(t−i) A_i

    def distances(self, seen: Mapping[str, Tensor]) -> Tensor:
        """Take in each layer's inputs (n, ...); return the relative distances (layers,).

        Rows must be as many each time. nan for a layer whose inputs are all 0.
        """
        inputs = [seen[name].float() for name in self._layers]
        self._mass = self._beta * self._mass + (1 - self._beta)
        if not self._sums:
            self._sums = [torch.zeros_like(each) for each in inputs]
        for total, each in zip(self._sums, inputs, strict=True):
            total.lerp_(each, 1 - self._beta)
        return torch.stack(
            [
                (each - total / self._mass).norm() / each.norm()
                for total, each in zip(self._sums, inputs, strict=True)
            ]
        )


@contextmanager
def _inputs(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the inputs of each layer in the forward passes within; by reference."""
    seen: dict[str, Tensor] = {}

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen[name] = inputs[0].detach()

    handles = [
        model.get_submodule(name).register_forward_pre_hook(partial(note, name)) for name in layers
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _medians(outcome: Distances) -> dict[str, float]:
    """Return the median over steps a layer."""
    values = outcome.relative.quantile(0.5, dim=0).tolist()
    return dict(zip(outcome.layers, values, strict=True))
