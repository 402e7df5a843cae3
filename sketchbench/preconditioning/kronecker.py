"""The optimizer that all Kronecker-factored methods share: everything but what an axis keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from sketchbench.preconditioning import batches, memory
from sketchbench.preconditioning.batches import Source
from sketchbench.preconditioning.factor import Factor, Sketching
from sketchbench.preconditioning.gradients import Gradient, collected
from sketchbench.preconditioning.grafting import GRAFTS, GraftName, grafted
from sketchbench.preconditioning.options import averages, check, forming, recognise, unmet
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

    def source(self, tensor: Tensor) -> Source:
        return Source(self.state, self.layout, tensor, memory.working(self.p))

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
    the count `skipped`. A factor that overflows (`FloatingPointError`) or whose decomposition fails
    leaves weights and steps as they were, but others may have absorbed the gradient by then: go on
    from a saved state. Options may change between steps, but for those that ask for tensors which
    the state doesn't have. The closure is called once. Parameters are whole: replicas stay equal
    under DistributedDataParallel, and sharded ones (DTensor) are refused.
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
        dotted = [name for name in factor.parts if "." in name or not name]
        if dotted:
            raise ValueError(f"optimizer: a factor's parts have names without dots; got {dotted}")
        self.factor = factor
        self.state_parts: dict[str, str] = {}
        self._formed: dict[Tensor, dict[str, Any]] = {}  # options that made a parameter's state
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
            self._state(gradient)["skipped"] += 1
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

    def escaped_shares(self) -> Tensor:
        """Return ρ / (ρ + trace of what is held) of every sketch, (sketches,), on the CPU.

        Of parameters that took a step; none where the factor doesn't sketch.
        """
        factor, found = self.factor, []
        if isinstance(factor, Sketching):
            for group in self.param_groups:
                for p in group["params"]:
                    if self.state.get(p):
                        kept = memory.axes(self.state[p], memory.form(p, group), factor)
                        found += [factor.escaped_share(axis).double().cpu() for axis in kept]
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group with options of its own; raise for what can't be taken, before it is in."""
        given = param_group["params"]
        if not isinstance(given, Tensor | set):  # which torch tells apart itself
            given = list(given)
        group = {**self.defaults, **param_group, "params": given}
        check(group, self.defaults)
        recognise(group, self.defaults, self.factor)
        parts: dict[str, str] = {}
        for item in [given] if isinstance(given, Tensor) else given:
            p = item[1] if isinstance(item, tuple) else item
            if hasattr(p, "full_tensor"):
                raise TypeError("optimizer: a sharded parameter (DTensor) can't be preconditioned")
            if isinstance(p, Tensor):
                keys = memory.empty(p, group, self.factor, torch.device("meta"))
                parts |= {key: memory.part(key, self.factor) for key in keys}
        super().add_param_group(group)
        self.state_parts |= {key: part for key, part in parts.items() if part != "rest"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a saved state: copied, moved to the parameters' devices, in their precision.

        What doesn't fit raises, and changes nothing.
        """
        adopted: dict[Tensor, dict[str, Tensor]] = {}
        see = self.register_load_state_dict_pre_hook(
            lambda _, given: adopted.update(self._adopted(given))  # after all other hooks
        )
        try:
            super().load_state_dict(state_dict)
        finally:
            see.remove()
        self._formed.clear()
        for group in self.param_groups:
            for p in group["params"]:
                if p in adopted:
                    self.state[p] = adopted[p]
                    self._formed[p] = forming(group)

    def __getstate__(self) -> dict[str, Any]:
        own = {name: self.__dict__[name] for name in ("factor", "state_parts", "_formed")}
        return super().__getstate__() | own

    def _adopted(self, saved: Mapping[str, Any]) -> dict[Tensor, dict[str, Tensor]]:
        """Return a saved state by parameter; nothing where torch is to refuse the groups."""
        lengths = [len(group["params"]) for group in saved["param_groups"]]
        if lengths != [len(group["params"]) for group in self.param_groups]:
            return {}
        found = {}
        number = 0
        for given, group in zip(saved["param_groups"], self.param_groups, strict=True):
            check(given, self.defaults)
            for key, p in zip(given["params"], group["params"], strict=True):
                if key in saved["state"]:
                    state = saved["state"][key]
                    found[p] = memory.adopted(state, p, given, self.factor, number)
                number += 1
        return found

    def _state(self, found: Gradient) -> dict[str, Tensor]:
        """Return a parameter's state, made at its first gradient; raise where its form is gone."""
        p, group = found.p, found.group
        state: dict[str, Tensor] = self.state[p]
        if not state:
            state.update(memory.empty(p, group, self.factor))
            self._formed.pop(p, None)
        asked = unmet(self._formed.setdefault(p, forming(group)), group)
        if asked:
            raise ValueError(
                f"{found}: its state was made without room for {asked}; set it back to what it "
                "was, or build a new optimizer"
            )
        return state

    def _member(self, found: Gradient) -> _Member:
        p, group, layout = found.p, found.group, memory.form(found.p, found.group)
        state, raw = self._state(found), found.value.reshape(layout.merged)
        return _Member(p, group, state, layout, raw, int(state["step"]))

    def _renew(self, members: Iterable[_Member]) -> None:
        """Let factors absorb what is due, and make their powers ready."""
        absorbing, ready = [], []
        for member in members:
            seen, group = member.source(member.raw), member.group
            if averages(group) and member.layout.tiles:
                count = int(member.state["summed"]) + 1
                member.state["summed"] += 1
                total = member.state["average"].add_(member.raw)
                seen = seen._replace(tensor=total, divisor=count)
            if member.due or (group["skipped"] == "observed" and member.layout.tiles):
                absorbing.append(seen)
            if member.due:
                ready.append(seen)
        batches.absorb(self.factor, absorbing)
        batches.refresh(self.factor, ready)
        for source in ready:
            for key in ("average", "summed"):
                if key in source.state:
                    source.state[key].zero_()

    def _descend(self, members: list[_Member]) -> None:
        """Take the step of parameters of one form."""
        gradients = [member.gradient() for member in members]
        found: Iterable[Tensor | None] = [None] * len(members)
        if members[0].preconditioned:
            sources = [m.source(g) for m, g in zip(members, gradients, strict=True)]
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
