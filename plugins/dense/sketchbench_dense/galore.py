"""GaLore: Adam on gradients that are projected to a low rank."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from sketchbench import Field, Optimizer
from sketchbench_dense.eigenbasis import averaged, eigenbasis
from sketchbench_dense.optimizers import LR
from sketchbench_dense.state import copies, trained

Decay = Annotated[float, Field(ge=0, lt=1)]


class GaLore(Optimizer):
    """Adam on gradients projected to a low rank, renewed every so often. [Zhao et al. 2024, Alg. 2]

    Of a gradient (m, n) the shorter side is projected, on the leading singular vectors of the
    gradient at every `update_proj_gap`-th step. The moments of the old projection go on as those
    of the new one, as in the authors' code. Parameters of fewer than two axes get plain Adam.

    Differs from the paper: 1. singular vectors are eigenvectors of the smaller Gram matrix, in
    float64: equal up to sign; 2. kernels are projected as matrices (first axis, the rest), where
    the authors leave them to Adam; 3. weights shrink before the step, as in AdamW.

    Our own: `galore-torch` 1.0 can't be imported without transformers and bitsandbytes, and the
    state of `pytorch_optimizer` 4.1.0's holds an object that `weights_only=True` refuses to load.
    """

    name = "galore"
    lr: float = Field(1e-2, ge=0, description=LR)
    rank: int = Field(128, ge=1, description="r, of the projection; at most the shorter side.")
    update_proj_gap: int = Field(200, ge=1, description="Steps from one projection to the next.")
    scale: float = Field(0.25, gt=0, description="α: projected steps are multiplied by it.")
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="Decay of the two moments.")
    eps: float = Field(1e-8, ge=0, description="Added to the root of the second moment.")
    weight_decay: float = Field(0.0, ge=0, description="λ: weights shrink by 1 − ηλ a step.")

    @property
    def period(self) -> int:
        """Steps from one projection to the next."""
        return self.update_proj_gap

    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer; every field is a key of its groups."""
        return _GaLore(params, {name: getattr(self, name) for name in type(self).model_fields})

    def state_bytes(self, params: Sequence[nn.Parameter]) -> Mapping[str, int]:
        """Return r(m + 2n) numbers of a matrix m ≤ n: its projection and two moments."""
        found = {"momentum": 0, "second_moment": 0, "preconditioner": 0}
        for p in trained(params):
            moment, projector = copies([p]), 0
            if p.ndim > 1:
                short, long = sorted(_sides(p.shape))
                rank = min(self.rank, short)
                moment, projector = (rank * side * p.element_size() for side in (long, short))
            found["momentum"] += moment
            found["second_moment"] += moment
            found["preconditioner"] += projector
        return found

    def break_even(self, shape: tuple[int, ...]) -> int | None:
        """Return mn / (m + n), rounded down: projection and second moment take r(m + n)."""
        rows, columns = _sides(shape)
        return rows * columns // (rows + columns)


class _GaLore(torch.optim.Optimizer):
    """Keeps `exp_avg` and `exp_avg_sq` of the projected gradient, and `projector` P (short, r)."""

    state_parts: ClassVar[Mapping[str, str]] = {
        "exp_avg": "momentum",
        "exp_avg_sq": "second_moment",
        "projector": "preconditioner",
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
                    direction = self._direction(p, group).to(p.dtype)  # may raise: before all
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(direction, alpha=-group["lr"])
        return loss

    def _direction(self, p: Tensor, group: Mapping[str, Any]) -> Tensor:
        state = self.state[p]
        grad = p.grad.to(torch.promote_types(p.dtype, torch.float32))  # type: ignore[union-attr]
        step = state.get("step", 0)
        state["step"] = step + 1
        if p.ndim < 2:
            return _adam(state, grad, group, p.dtype)
        grad = grad.flatten(1)
        upright = grad.shape[0] >= grad.shape[1]
        tall = grad if upright else grad.mT  # (long, short)
        if step % group["update_proj_gap"] == 0:
            leading = eigenbasis(tall.mT @ tall)[:, : group["rank"]]
            state["projector"] = leading.to(p.dtype).clone(memory_format=torch.contiguous_format)
        projector = state["projector"].to(grad.dtype)
        back = _adam(state, tall @ projector, group, p.dtype) @ projector.mT
        return (back if upright else back.mT).reshape(p.shape) * group["scale"]


def _adam(
    state: dict[str, Any], grad: Tensor, group: Mapping[str, Any], dtype: torch.dtype
) -> Tensor:
    """Return Adam's direction in the space of `grad`; its moments, kept in `dtype`, go on."""
    if "exp_avg" not in state:
        for key in ("exp_avg", "exp_avg_sq"):
            state[key] = torch.zeros(grad.shape, dtype=dtype, device=grad.device)
    decay1, decay2 = group["betas"]
    mean = averaged(state["exp_avg"], grad, decay1) / (1 - decay1 ** state["step"])
    square = averaged(state["exp_avg_sq"], grad.square(), decay2) / (1 - decay2 ** state["step"])
    return mean / square.sqrt().add_(group["eps"])


def _sides(shape: Sequence[int]) -> tuple[int, int]:
    """Return the sides (m, n) of the matrix that a parameter of two axes or more is taken for."""
    return shape[0], math.prod(shape[1:])
