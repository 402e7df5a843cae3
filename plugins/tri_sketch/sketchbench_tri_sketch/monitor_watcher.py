"""The watcher: hooks on linear layers that sketch what passes by, and touch nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from sketchbench.measure import category
from sketchbench_tri_sketch.draws import wide
from sketchbench_tri_sketch.monitor_sketches import (
    Average,
    Projections,
    centring,
    stable_rank,
    two_sided,
)
from sketchbench_tri_sketch.passes import as_typed, recomputing

TWO_SIDED = ("two_sided_raw", "two_sided_norm")


class Glimpse(NamedTuple):
    """What one backward pass showed of a layer."""

    gradient: Tensor  # Ψg (k, n)
    norm: Tensor  # ‖δ‖_F
    inputs: Tensor  # UᵀA (k, n), without rows where there is no U
    deltas: Tensor | None  # Uᵀδ (k, m)


class SketchWatcher:
    """Watches `layers` by name with sketches of `size` columns; see `TriSketchMonitor`.

    A layer is sketched where it is applied with gradients on, in training mode: its input at
    once, its δ when it comes by in the backward pass. Of a layer that is applied several times in
    a step, the last backward pass counts. A layer that no δ reaches has NaN. A recomputation is
    looked at where the pass that it repeats wasn't (reentrant checkpointing), and not twice.
    """

    def __init__(
        self,
        layers: Mapping[str, nn.Linear],
        size: int,
        beta: float,
        diversity: bool,
        fresh: bool,
        rng: Generator,
    ) -> None:
        self._names, self._modules = tuple(layers), tuple(layers.values())
        self._size, self._beta, self._diversity = size, beta, diversity
        self._fresh = size if fresh else 0  # columns of U
        weight, widest = self._modules[0].weight, max(m.out_features for m in self._modules)
        psi = torch.randn(size, widest, generator=rng)
        scales = torch.randn(len(layers), size, generator=rng)
        with category("sketch"):
            kind = wide(weight.dtype)
            self._psi = psi.to(weight.device, kind)
            self._weights = _weights(size, scales).to(weight.device, kind)
            self._two_sided = two_sided(size, self._psi)
        self._rng = rng
        self._projections: dict[int, Projections] = {}  # by rows
        self._averages: dict[int, Average] = {}  # of each layer's input, then of the last output
        self._rows: dict[int, int] = {}
        self._glimpses: dict[int, Glimpse] = {}
        self._before: dict[int, Tensor] = {}  # Ψg/‖Ψg‖ of the step before
        self._centring: Tensor | None = None  # of the averages that there are
        self._renewed: set[int] = set()
        self._passed: set[int] = set()  # layers whose input this step has sketched
        self._hooks: list[Any] = []
        self.observe(True)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of the layers watched."""
        return self._names

    def observe(self, on: bool) -> None:
        """Put the hooks on, or take them off."""
        if on and not self._hooks:
            self._hooks = [
                module.register_forward_hook(partial(self._forward, place))
                for place, module in enumerate(self._modules)
            ]
        elif not on:
            self.close()

    def close(self) -> None:
        """Take the hooks off the model."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._begin_step()

    def held(self) -> int:
        """Return the bytes of projections, averages, and the last Ψg of each layer."""
        held = [self._psi, self._weights, self._two_sided, *self._before.values()]
        held += [] if self._centring is None else [self._centring]
        held += [projection.matrix for projection in self._projections.values()]
        held += [average.state for average in self._averages.values()]
        return sum({id(s): s.nbytes() for s in (t.untyped_storage() for t in held)}.values())

    def estimates(self) -> Mapping[str, Tensor]:
        """Return each estimate (layers,) of the step whose backward pass has just ended."""
        with category("sketch"), as_typed(self._psi):
            found = self._of_gradients() | self._of_activations()
            found["delta_times_sketch"] = found.pop("delta_norm") * found.pop("input_scale")
        self._begin_step()
        return found

    # ---------------------------------------------------------------- what the hooks do

    def _begin_step(self) -> None:
        self._glimpses.clear()
        self._renewed.clear()
        self._passed.clear()

    def _forward(
        self, place: int, module: nn.Module, inputs: tuple[Any, ...], output: Tensor
    ) -> None:
        if not (module.training and output.requires_grad):
            return
        if place in self._passed and recomputing():
            return
        self._passed.add(place)
        given = inputs[0].detach()
        with category("sketch"), as_typed(given):
            sketched = self._sketched(place, _rows(given))
            if place + 1 == len(self._modules):
                self._sketched(place + 1, _rows(output))
        output.register_hook(partial(self._backward, place, given, sketched))

    def _backward(self, place: int, given: Tensor, inputs: Tensor, delta: Tensor) -> None:
        with category("sketch"), as_typed(given):
            rows, delta = _rows(given), _rows(delta)
            fresh = self._projections[self._rows[place]].fresh if self._fresh else None
            self._glimpses[place] = Glimpse(
                gradient=_first(self._psi, delta.shape[1]) @ delta.mT @ rows,
                norm=torch.linalg.vector_norm(delta),
                inputs=inputs,
                deltas=None if fresh is None else _first(fresh, len(delta)) @ delta,
            )

    def _sketched(self, place: int, rows: Tensor) -> Tensor:
        """Average in the sketches of A (rows, n); return UᵀA (k, n)."""
        sketches = _first(self._projection(place, rows).matrix, len(rows)) @ rows
        average = self._averages.get(place)
        if average is None:
            average = Average(self._size, rows.shape[1], self._beta, rows)
            self._averages[place], self._centring = average, None
        lasting, fresh = sketches.split((3 * self._size + 1, self._fresh))
        average.update(lasting)
        return fresh

    def _projection(self, place: int, rows: Tensor) -> Projections:
        count = self._rows.setdefault(place, len(rows))
        if len(rows) > count:
            raise ValueError(
                f"tri-sketch-monitor: {len(rows)} rows at layer "
                f"'{self._names[min(place, len(self._names) - 1)]}' after {count}; averages need "
                "the first batch to be the largest"
            )
        if count not in self._projections:
            self._projections[count] = Projections(count, self._size, self._fresh, self._rng, rows)
        if self._fresh and count not in self._renewed:
            self._renewed.add(count)
            self._projections[count].renew(self._rng)
        return self._projections[count]

    # ---------------------------------------------------------------- what is read

    def _of_gradients(self) -> dict[str, Tensor]:
        """Return what a backward pass says of each layer's gradient, NaN where there was none."""
        places = sorted(self._glimpses)
        seen = [self._glimpses[place] for place in places]
        nothing = self._psi.new_full((len(self._modules),), torch.nan)
        found = dict.fromkeys(("sketched_norm", *TWO_SIDED, "delta_norm", "diversity"), nothing)
        if seen:
            norms = torch._foreach_norm([glimpse.gradient for glimpse in seen])
            found["sketched_norm"] = torch.stack(norms) / self._size**0.5
            found["delta_norm"] = torch.stack([glimpse.norm for glimpse in seen])
            if self._fresh:
                found |= zip(TWO_SIDED, self._on_both_sides(seen), strict=True)
            if self._diversity:
                gradients = [glimpse.gradient for glimpse in seen]
                found["diversity"] = self._turned(places, gradients, norms)
        if 0 < len(places) < len(nothing):
            at = torch.tensor(places, device=nothing.device)
            found = {
                name: values if values is nothing else nothing.index_copy(0, at, values)
                for name, values in found.items()
            }
        left_out = [
            *(() if self._fresh else TWO_SIDED),
            *([] if self._diversity else ["diversity"]),
        ]
        return {name: values for name, values in found.items() if name not in left_out}

    def _on_both_sides(self, seen: Sequence[Glimpse]) -> Tensor:
        """Return ‖ĝ‖ and the root of what is unbiased for ‖g‖² (2, layers), 0 where negative."""
        inputs = torch.stack([each.inputs @ each.inputs.mT for each in seen])
        deltas = torch.stack(
            [each.deltas @ each.deltas.mT for each in seen if each.deltas is not None]
        )
        return (inputs * deltas * self._two_sided).sum((-2, -1)).clamp_min(0).sqrt()

    def _turned(
        self, places: list[int], gradients: list[Tensor], norms: Sequence[Tensor]
    ) -> Tensor:
        """Return 1 − cos of each Ψg and the one before: half the square between unit vectors."""
        nothing = self._psi.new_full((len(places),), torch.nan)
        units = torch._foreach_div(gradients, norms)
        before = [self._before.get(place) for place in places]
        self._before |= dict(zip(places, units, strict=True))
        if any(each is None for each in before):
            return nothing
        return torch.stack(torch._foreach_norm(torch._foreach_sub(units, before))).square() / 2

    def _of_activations(self) -> dict[str, Tensor]:
        """Return what the averages say, NaN where there is none yet."""
        size, places = self._size, range(len(self._modules) + 1)
        nothing = self._psi.new_full((3 * size + 1, 3 * size + 1), torch.nan)
        averages = [self._averages.get(place) for place in places]
        gram = torch.stack([average.gram() if average else nothing for average in averages])
        if self._centring is None:
            sums = [
                self._projections[self._rows[place]].outputs.sum(1)
                if average
                else nothing[0, :size]
                for place, average in enumerate(averages)
            ]
            self._centring = centring(torch.stack(sums[1:]))
        outputs = gram[1:, 2 * size :, 2 * size :]
        ranks = stable_rank(self._centring @ outputs @ self._centring.mT)
        squares = gram.diagonal(dim1=-2, dim2=-1)
        inputs, interactions = (squares * self._weights).sum(-1).sqrt() / self._masses(averages)
        return {
            "input_scale": inputs[:-1],
            "z_norm": interactions[1:],
            "stable_rank": ranks[0],
            "stable_rank_centred": ranks[1],
        }

    def _masses(self, averages: Sequence[Average | None]) -> float | Tensor:
        """Return 1 − β^t of each average; one number where it is the same for all."""
        masses = [average.mass if average else torch.nan for average in averages]
        return masses[0] if len(set(masses)) == 1 else torch.tensor(masses).to(self._psi)


def _weights(size: int, scales: Tensor) -> Tensor:
    """Return the weights (2, places, 3k + 1) of squared sketch columns in ‖X‖²/k and ‖Z‖².

    `scales` (layers, k) are the Ψ^l; layer l's Z is that of place l + 1.
    """
    weights = torch.zeros(2, len(scales) + 1, 3 * size + 1)
    weights[0, :, :size] = 1 / size
    weights[1, 1:, size : 2 * size] = scales.square()
    return weights


def _rows(x: Tensor) -> Tensor:
    """Return x (..., n) as rows, detached, in float32 at least."""
    rows = x.detach()
    if rows.ndim != 2:
        rows = rows.reshape(-1, x.shape[-1])
    return rows.to(wide(rows.dtype))


def _first(matrix: Tensor, columns: int) -> Tensor:
    return matrix if matrix.shape[1] == columns else matrix[:, :columns]
