"""Muon, and the composite optimizer that leaves to AdamW what Muon can't take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import nn

from sketchbench import Field, Optimizer
from sketchbench_dense.optimizers import MOMENTS, moment_bytes
from sketchbench_dense.state import copies, declaring, trained


class Muon(Optimizer):
    """Orthogonalised momentum for matrices, AdamW for every other parameter. [Jordan et al. 2024]

    Differs from the source: 1. what is a matrix is told by the shape alone, so embeddings and the
    output layer get Muon too, and convolution kernels AdamW; 2. each part has its own rate.
    """

    name = "muon"
    lr: float = Field(1e-3, ge=0, description="η of the matrices; schedules multiply it.")
    momentum: float = Field(0.95, ge=0, lt=1, description="Weight of the previous momentum.")
    nesterov: bool = Field(True, description="Look ahead along the momentum.")
    weight_decay: float = Field(0.1, ge=0, description="λ: matrices shrink by 1 − ηλ a step.")
    ns_steps: int = Field(5, ge=1, lt=100, description="Newton-Schulz iterations.")
    adjust_lr: Literal["original", "match_rms_adamw"] = Field(
        "original", description="How η scales with a matrix's shape."
    )
    adamw_lr: float = Field(1e-3, ge=0, description="η of the rest; schedules multiply it.")
    adamw_weight_decay: float = Field(1e-2, ge=0, description="λ of the rest.")

    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return one optimizer with a group of matrices and a group of the rest."""
        params = list(params)
        matrices = [p for p in params if p.ndim == 2]
        rest = [p for p in params if p.ndim != 2]
        parts: dict[str, torch.optim.Optimizer] = {}
        if matrices:
            muon = torch.optim.Muon(
                matrices,
                lr=self.lr,
                weight_decay=self.weight_decay,
                momentum=self.momentum,
                nesterov=self.nesterov,
                ns_steps=self.ns_steps,
                adjust_lr_fn=self.adjust_lr,
            )
            parts["muon"] = declaring(muon, {"momentum_buffer": "momentum"})
        if rest:
            adamw = torch.optim.AdamW(rest, lr=self.adamw_lr, weight_decay=self.adamw_weight_decay)
            parts["adamw"] = declaring(adamw, MOMENTS)
        return Composite(parts)

    def state_bytes(self, params: Sequence[nn.Parameter]) -> Mapping[str, int]:
        """Return AdamW's bytes of the rest, and one more momentum for the matrices."""
        found = moment_bytes(p for p in params if p.ndim != 2)
        found["momentum"] += copies(trained(p for p in params if p.ndim == 2))
        return found


class Composite(torch.optim.Optimizer):
    """Several optimizers as one: every group says in `rule` which of them steps it.

    Groups and state are this optimizer's own (schedules, `zero_grad` and `state_dict` see one
    ordinary optimizer), and are lent to the parts for each step. Its `state_parts` are theirs.
    """

    def __init__(self, parts: Mapping[str, torch.optim.Optimizer]) -> None:
        self._parts = dict(parts)
        self.state_parts: dict[str, str] = {}
        for part in parts.values():
            self.state_parts |= getattr(part, "state_parts", {})
        groups = [
            {**group, "rule": rule} for rule, part in parts.items() for group in part.param_groups
        ]
        super().__init__(groups, {})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step every group by its rule; return what `closure` returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for rule, part in self._parts.items():
            part.param_groups = [group for group in self.param_groups if group["rule"] == rule]
            part.state = self.state
            part.step()
        return loss

    def __getstate__(self) -> dict[str, Any]:
        own = {"_parts": self._parts, "state_parts": self.state_parts}
        return super().__getstate__() | own

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, whose `rule` must be one of the parts'."""
        if param_group.get("rule") not in self._parts:
            raise ValueError(
                f"composite optimizer: a group's 'rule' must be one of {', '.join(self._parts)}; "
                f"got {param_group.get('rule')!r}"
            )
        super().add_param_group(param_group)
