"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from sketchbench import Field, Optimizer
from sketchbench.preconditioning import merged
from sketchbench_dense.eigenbasis import averaged, eigenbasis
from sketchbench_dense.optimizers import LR
from sketchbench_dense.state import copies, trained

Decay = Annotated[float, Field(ge=0, lt=1)]


class SOAP(Optimizer):
    """Adam in the eigenbasis of Shampoo's preconditioner. [Vyas et al. 2024, Alg. 3]

    Each axis of a parameter has a factor, a running mean of the gradient's Gram matrix along it,
    and a basis: its eigenvectors at first, then one power iteration and a QR decomposition every
    `precondition_frequency` steps. The second moment is kept in the bases, the first is not, and
    neither is rotated when they change: the second only follows their order. Axes longer than
    `max_precond_dim`, vectors and numbers keep the standard basis: without a factor it is Adam.
    `merge_dims` makes a kernel (64, 32, 3, 3) a matrix (64, 288), from 288 on.

    Differs from the authors' code: 1. theirs skips the first step, in whose own eigenbasis all
    but a diagonal of the gradient is rounding; here that step is Adam's, and as there it leaves
    its trace in the factors alone; 2. ε is added to the corrected root, as in torch's Adam;
    3. factors and bases are of float32 at least; 4. merging leaves two axes, as in `shampoo`.

    Our own: `pytorch_optimizer` 4.1.0's raises on a (6, 4) with `merge_dims` and moves nothing at
    step 1; the work of `heavyball` 3.2.1's doesn't repeat with its `precondition_frequency`.
    """

    name = "soap"
    lr: float = Field(3e-3, ge=0, description=LR)
    betas: tuple[Decay, Decay] = Field((0.95, 0.95), description="Decay of the two moments.")
    shampoo_beta: Decay | None = Field(None, description="Decay of the factors (null: β₂).")
    precondition_frequency: int = Field(10, ge=1, description="Steps from one basis to the next.")
    max_precond_dim: int = Field(10_000, ge=0, description="Longest axis that has a factor.")
    merge_dims: int = Field(0, ge=0, description="Neighbouring axes are merged up to this length.")
    weight_decay: float = Field(1e-2, ge=0, description="λ: weights shrink by 1 − ηλ a step.")
    eps: float = Field(1e-8, ge=0, description="Added to the root of the second moment.")

    @property
    def period(self) -> int:
        """Steps from one basis to the next; 1 where no axis has any."""
        return self.precondition_frequency if self.max_precond_dim > 1 else 1

    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer; every field is a key of its groups."""
        return _SOAP(params, {name: getattr(self, name) for name in type(self).model_fields})

    def state_bytes(self, params: Sequence[nn.Parameter]) -> Mapping[str, int]:
        """Return two copies of the parameters, and 2d² numbers an axis of length d."""
        taught = trained(params)
        each = copies(taught)
        both = 0
        for p in taught:
            shape, axes = _layout(p, self.merge_dims, self.max_precond_dim)
            numbers = sum(2 * shape[axis] ** 2 for axis in axes)
            both += numbers * torch.promote_types(p.dtype, torch.float32).itemsize
        return {"momentum": each, "second_moment": each, "preconditioner": both}


class _SOAP(torch.optim.Optimizer):
    """Keeps `factors` GGᵀ (d, d) and `bases` Q (d, d) an axis; `exp_avg_sq` is in the bases."""

    state_parts: ClassVar[Mapping[str, str]] = {
        "exp_avg": "momentum",
        "exp_avg_sq": "second_moment",
        "factors": "preconditioner",
        "bases": "preconditioner",
    }

    def __init__(self, params: Iterable[nn.Parameter], defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step every parameter with a gradient; return what `closure` returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._step(p, group)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state; factors and bases in their own precision, which torch would round."""
        super().load_state_dict(state_dict)
        saved = chain.from_iterable(group["params"] for group in state_dict["param_groups"])
        params = chain.from_iterable(group["params"] for group in self.param_groups)
        for index, p in zip(saved, params, strict=True):
            for key in ("factors", "bases") if index in state_dict["state"] else ():
                found = state_dict["state"][index][key]
                wide = torch.promote_types(p.dtype, torch.float32)
                self.state[p][key] = [each.to(p.device, wide, copy=True) for each in found]

    def _step(self, p: Tensor, group: Mapping[str, Any]) -> None:
        shape, axes = _layout(p, group["merge_dims"], group["max_precond_dim"])
        wide = torch.promote_types(p.dtype, torch.float32)
        grad = p.grad.to(wide).reshape(shape)  # type: ignore[union-attr]
        state = self.state[p]
        first = [] if state else [eigenbasis(_second(grad, axis)) for axis in axes]
        state = state or self._begun(p, grad, axes)  # once nothing can raise any more
        state["step"] += 1
        direction = (
            grad / (grad.abs() + group["eps"]) if first else _direction(state, grad, axes, group)
        )
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(direction.reshape(p.shape).to(p.dtype), alpha=-group["lr"])
        decay = group["betas"][1] if group["shampoo_beta"] is None else group["shampoo_beta"]
        for axis, factor in zip(axes, state["factors"], strict=True):
            averaged(factor, _second(grad, axis), decay)
        if first:
            state["bases"] = first
        elif (state["step"] - 1) % group["precondition_frequency"] == 0:
            _renew(state, axes)

    def _begun(self, p: Tensor, grad: Tensor, axes: Sequence[int]) -> dict[str, Any]:
        """Return the state before the first step: `bases` come with the first gradient."""
        state: dict[str, Any] = self.state[p]
        state["step"] = 0
        for key in ("exp_avg", "exp_avg_sq"):
            state[key] = torch.zeros(grad.shape, dtype=p.dtype, device=p.device)
        state["factors"] = [grad.new_zeros(2 * [grad.shape[axis]]) for axis in axes]
        state["bases"] = []
        return state


def _direction(
    state: dict[str, Any], grad: Tensor, axes: Sequence[int], group: Mapping[str, Any]
) -> Tensor:
    """Return Adam's direction in the bases, in the standard basis; the moments go on."""
    steps = state["step"] - 1 if axes else state["step"]  # that the moments have seen
    decay1, decay2 = group["betas"]
    bases = list(zip(axes, state["bases"], strict=True))
    square = averaged(state["exp_avg_sq"], _rotated(grad, bases).square(), decay2)
    mean = _rotated(averaged(state["exp_avg"], grad, decay1), bases) / (1 - decay1**steps)
    direction = mean / (square / (1 - decay2**steps)).sqrt().add_(group["eps"])
    return _rotated(direction, [(axis, basis.mT) for axis, basis in bases])


def _renew(state: dict[str, Any], axes: Sequence[int]) -> None:
    """Take one power iteration of each factor from its basis, largest eigenvalues first."""
    for index, axis in enumerate(axes):
        basis = state["bases"][index]
        product = state["factors"][index] @ basis
        order = (basis * product).sum(0).argsort(descending=True)
        state["bases"][index] = torch.linalg.qr(product[:, order]).Q
        state["exp_avg_sq"] = state["exp_avg_sq"].index_select(axis, order)


def _second(grad: Tensor, axis: int) -> Tensor:
    """Return the Gram matrix (d, d) of a gradient along one axis."""
    rows = grad.movedim(axis, 0).flatten(1)
    return rows @ rows.mT


def _rotated(x: Tensor, bases: Iterable[tuple[int, Tensor]]) -> Tensor:
    """Return x with Qᵀ applied to each axis that has a basis Q."""
    for axis, basis in bases:
        x = (x.movedim(axis, -1) @ basis).movedim(-1, axis)
    return x


def _layout(p: Tensor, merge: int, longest: int) -> tuple[tuple[int, ...], list[int]]:
    """Return the shape that a parameter is taken in, and which of its axes have a factor."""
    shape = merged(tuple(p.shape), merge)
    if len(shape) < 2 or not p.numel():
        return shape, []
    return shape, [axis for axis, size in enumerate(shape) if size <= longest]
