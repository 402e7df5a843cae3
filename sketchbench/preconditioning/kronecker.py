"""The optimizer that all Kronecker-factored methods share: everything but what an axis keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from sketchbench.preconditioning import batches, memory
from sketchbench.preconditioning.batches import Source
from sketchbench.preconditioning.factor import Factor
from sketchbench.preconditioning.gradients import Gradient, collected
from sketchbench.preconditioning.grafting import GRAFTS, GraftName, grafted
from sketchbench.preconditioning.options import check
from sketchbench.preconditioning.shapes import Layout

Skipped = Literal["exact", "averaged", "observed"]


class _Member(NamedTuple):
    """A parameter in this step."""

    p: Tensor
    group: Mapping[str, Any]
    state: dict[str, Tensor]
    layout: Layout
    raw: Tensor  # the gradient (*merged) as it came
    step: int  # steps that the parameter took before this one

    def gradient(self) -> Tensor:
        """Return the gradient (*merged) in the state's precision, with the sign of descent."""
        wide = self.raw.to(memory.working(self.p))
        return -wide if self.group["maximize"] else wide

    @property
    def preconditioned(self) -> bool:
        return bool(self.layout.tiles) and self.step >= self.group["start_step"]

    @property
    def due(self) -> bool:
        return bool(self.layout.tiles) and self.step % self.group["update_every"] == 0


class Kronecker(torch.optim.Optimizer):
    """Precondition every axis of every tensor by a factor's power −1/(2·order).

    With the gradient G of a tensor of order p, merged and cut as `shapes.layout` says, a step is

        C_i absorbs unfold_i(G)                 every `update_every` steps, from the first
        P = G ×_0 C_0^(−1/2p) ×_1 C_1^(−1/2p) …
        U = P·‖D‖/‖P‖,  D the graft of G        (`grafting`; U = P without)
        m = momentum·m + U;  V = U + momentum·m if nesterov, m otherwise
        w = w − lr·weight_decay·w − lr·V

    Vectors, scalars and what `max_dim` forbids have U = D, and so has every tensor in its first
    `start_step` steps. Gradients between two updates are passed over (`skipped="exact"`, as in the
    Sketchy paper), or their mean since the last is what is absorbed (`averaged`), or all are
    absorbed and only the powers wait (`observed`, as Shampoo does). Steps are counted for each
    parameter, as it gets gradients. State is plain tensors, in the parameter's precision and in
    float32 at the least. A gradient that isn't finite, or whose squares overflow, raises before
    anything changes; with `nonfinite="skip"` its parameter and state stay as they are, but for
    the count `skipped`. The closure is called once. Parameters are whole: replicas stay equal under
    DistributedDataParallel, and sharded ones (DTensor) are refused.
    """

    def __init__(
        self,
        params: Iterable[Any],
        factor: Factor,
        *,
        lr: float = 1e-3,
        update_every: int = 1,
        skipped: Skipped = "exact",
        start_step: int = 0,
        graft: GraftName = "none",
        graft_beta2: float = 0.999,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        merge_dims: int = 1024,
        block_size: int | None = None,
        max_dim: int | None = None,
        maximize: bool = False,
        nonfinite: Literal["raise", "skip"] = "raise",
    ) -> None:
        self.factor = factor
        self.state_parts: dict[str, str] = {}
        options = {
            "lr": lr,
            "update_every": update_every,
            "skipped": skipped,
            "start_step": start_step,
            "graft": graft,
            "graft_beta2": graft_beta2,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "merge_dims": merge_dims,
            "block_size": block_size,
            "max_dim": max_dim,
            "maximize": maximize,
            "nonfinite": nonfinite,
        }
        super().__init__(params, options)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; return what `closure` returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        found, broken = collected(self.param_groups)
        for gradient in broken:
            self._state(gradient.p, gradient.group)["skipped"] += 1
        members = [self._member(gradient) for gradient in found]
        self._renew(members)
        for alike in batches.grouped(members, _likeness, lambda member: member.raw.numel()):
            self._descend(alike)
        return loss

    def declared_bytes(self) -> dict[str, int]:
        """Return the bytes of state after the first step on the parameters' devices, by part."""
        found: dict[str, int] = {}
        for group in self.param_groups:
            for p in group["params"]:
                if p.requires_grad:
                    for part, size in memory.declared(p, group, self.factor).items():
                        found[part] = found.get(part, 0) + size
        return found

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, with options of its own; raise for one that is out of its range."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        check(group)
        for p in group["params"]:
            if hasattr(p, "full_tensor"):
                raise TypeError("optimizer: a sharded parameter (DTensor) can't be preconditioned")
            keys = memory.empty(p, group, self.factor, torch.device("meta"))
            named = {key: memory.part(key, self.factor) for key in keys}
            self.state_parts |= {key: part for key, part in named.items() if part != "rest"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a saved state: copied, moved to the parameters' devices, in their precision."""
        seen: list[dict[str, Any]] = []
        see = self.register_load_state_dict_pre_hook(lambda _, given: seen.append(given))
        try:
            super().load_state_dict(state_dict)
        finally:
            see.remove()
        saved = seen[0]
        number = 0
        for given, group in zip(saved["param_groups"], self.param_groups, strict=True):
            for key, p in zip(given["params"], group["params"], strict=True):
                if key in saved["state"]:
                    state = saved["state"][key]
                    self.state[p] = memory.adopted(state, p, group, self.factor, number)
                number += 1

    def __getstate__(self) -> dict[str, Any]:
        own = {"factor": self.factor, "state_parts": self.state_parts}
        return super().__getstate__() | own

    def _state(self, p: Tensor, group: Mapping[str, Any]) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[p]
        if not state:
            state.update(memory.empty(p, group, self.factor))
        return state

    def _member(self, found: Gradient) -> _Member:
        p, group, layout = found.p, found.group, memory.form(found.p, found.group)
        state, raw = self._state(p, group), found.value.reshape(layout.merged)
        return _Member(p, group, state, layout, raw, int(state["step"]))

    def _renew(self, members: Iterable[_Member]) -> None:
        """Let factors absorb what is due, and make their powers ready."""
        absorbing, ready = [], []
        for member in members:
            seen, group = Source(member.state, member.layout, member.raw), member.group
            if memory.averages(group) and member.layout.tiles:
                total = member.state["average"].add_(member.raw)
                count = group["update_every"] if member.step else 1
                seen = seen._replace(tensor=total, divisor=count)
            if member.due or (group["skipped"] == "observed" and member.layout.tiles):
                absorbing.append(seen)
            if member.due:
                ready.append(seen)
        batches.absorb(self.factor, absorbing)
        batches.refresh(self.factor, ready)
        for source in ready:
            if "average" in source.state:
                source.state["average"].zero_()

    def _descend(self, members: list[_Member]) -> None:
        """Take the step of parameters of one form."""
        gradients = [member.gradient() for member in members]
        found: Iterable[Tensor | None] = [None] * len(members)
        if members[0].preconditioned:
            sources = [
                Source(m.state, m.layout, g) for m, g in zip(members, gradients, strict=True)
            ]
            found = batches.preconditioned(self.factor, sources).unbind()
        for member, gradient, preconditioned in zip(members, gradients, found, strict=True):
            _move(member, _update(member, gradient, preconditioned))
            member.state["step"] += 1


def _likeness(member: _Member) -> Any:
    """Return what parameters must share to be preconditioned in one call."""
    return member.layout, member.preconditioned, memory.working(member.p), member.p.device


def _update(member: _Member, gradient: Tensor, preconditioned: Tensor | None) -> Tensor:
    """Return U (*merged)."""
    group, state = member.group, member.state
    graft = GRAFTS[group["graft"]]
    kept = {name: state[f"graft.{name}"] for name in graft.empty(member.layout.merged)}
    direction = graft.direction(kept, gradient, group["graft_beta2"], member.step + 1)
    if preconditioned is None:
        return direction
    return preconditioned if group["graft"] == "none" else grafted(preconditioned, direction)


def _move(member: _Member, update: Tensor) -> None:
    """Move a parameter along its update, by way of momentum and weight decay."""
    group, p, update = member.group, member.p, update.reshape(member.p.shape)
    if group["momentum"]:
        trace = member.state["momentum"].mul_(group["momentum"]).add_(update)
        update = update + group["momentum"] * trace if group["nesterov"] else trace
    if group["weight_decay"]:
        p.mul_(1 - float(group["lr"]) * group["weight_decay"])
    p.add_(update, alpha=-float(group["lr"]))
