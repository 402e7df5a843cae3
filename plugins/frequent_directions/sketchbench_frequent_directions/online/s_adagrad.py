"""S-AdaGrad: AdaGrad on a sketch and the mass that escaped it. [Feinberg et al. 2023, Alg. 2]"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sketchbench import Field
from sketchbench_frequent_directions.online.sketched import SketchedOptimizer, SketchedRecipe
from sketchbench_frequent_directions.online.vectors import weight

EXACT = ("svd", "gram")  # solvers whose tail is the mass that escaped, to rounding


class SAdagrad(SketchedRecipe):
    """AdaGrad on a sketch and the mass that escaped it. [Feinberg et al. 2023, Alg. 2]

    H = (Ḡ + (ρ + δ)I)^½. Where ρ + δ is 0 (until the sketch is full, without δ) H⁺ is of Moore and
    Penrose, as in the paper; between updates, what is outside the sketch is then lost.
    """

    name = "s-adagrad"
    delta: float = Field(0.0, ge=0, description="δ, the mass before the first gradient; 0 there.")
    beta2: float = Field(1.0, gt=0, le=1, description="β₂: of C a gradient makes β₂C + ggᵀ.")
    tail_decay: Literal["paper", "tearfree"] = Field(
        "paper", description="Decay of the escaped mass: β₂, or √β₂ as in the authors' code."
    )
    update_every: int = Field(1, ge=1, description="Steps from one update to the next.")
    skipped: Literal["exact", "averaged"] = Field(
        "exact",
        description="What an update sketches: its step's gradient, or the mean since the last one.",
    )

    @property
    def period(self) -> int:
        """Steps from one update of the sketch to the next."""
        return self.update_every

    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer."""
        return _SAdagrad(
            params,
            lr=self.lr,
            radius=self.radius,
            delta=self.delta,
            rank=self.rank,
            solver=self.solver,
            beta2=self.beta2,
            tail_decay=self.beta2 if self.tail_decay == "paper" else self.beta2**0.5,
            update_every=self.update_every,
            averaged=self.averages,
        )

    @property
    def averages(self) -> bool:
        """Whether gradients are added up between updates."""
        return self.skipped == "averaged" and self.update_every > 1

    def kept(self, size: int) -> Mapping[str, int]:
        """The sketch, and the sum of the gradients that are to be averaged."""
        sketch = super().kept(size)["sketch"]
        return {"sketch": sketch + size * self.averages}


class _SAdagrad(SketchedOptimizer):
    def __init__(self, params: Iterable[nn.Parameter], *, averaged: bool, **rest: Any) -> None:
        super().__init__(params, averaged=averaged, **rest)
        if averaged:
            self.state_parts = {**type(self).state_parts, "waiting": "sketch"}

    def begin(self, like: Tensor, group: Mapping[str, Any]) -> dict[str, Tensor]:
        state = super().begin(like, group)
        if group["averaged"]:
            state["waiting"] = torch.zeros_like(like)  # Σ g (d,) since the last update
        return state

    def increment(
        self, state: dict[str, Tensor], gradient: Tensor, step: int, group: Mapping[str, Any]
    ) -> Tensor | None:
        """Return the gradient, or a mean, at the first of every `update_every` steps."""
        every = group["update_every"]
        due = (step - 1) % every == 0
        if not group["averaged"]:
            return gradient if due else None
        state["waiting"] += gradient
        if not due:
            return None
        mean = state["waiting"] / (1 if step == 1 else every)
        state["waiting"].zero_()
        return mean

    def spectrum(
        self, roots: Tensor, tail: Tensor, group: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor]:
        mass = tail + group["delta"]
        return (roots.square() + mass).sqrt(), mass.sqrt()

    def guarantee(self, moment: Tensor, diameter: float) -> float | None:
        """Return what the regret within a set of diameter D isn't above. [Feinberg et al., Thm 3]

        D²/2η·(tr G^½ + √(d(d − ℓ)Ω) + d√δ) + η·tr G^½, where G is Σ ggᵀ over all rounds, `moment`
        (d, d), λ its eigenvalues and Ω = min_{k<ℓ} Σ_{i>k} λᵢ/(ℓ − k) ≥ ρ [ibid., Lemma 1].

        The regret is at most D²/2η·tr H_T + η/2·Σ gᵀH_t⁺g, as H_t grows [Duchi et al. 2011]. Let
        G̃_t = Ḡ_t + ρ_t·I. 1. G̃_t ⪰ G_t, hence Σ gᵀH_t⁺g ≤ Σ gᵀ(G_t^½)⁺g ≤ 2·tr G^½: what escaped
        isn't in this half. 2. G̃_T has eigenvalues λᵢ + eᵢ with eᵢ in [0, ρ], from the sandwich. An
        update by one row takes what escapes from ℓ eigenvalues and adds it to d: Σ eᵢ = (d − ℓ)ρ,
        and tr H_T ≤ Σ √λᵢ + Σ √eᵢ ≤ tr G^½ + √(d·Σ eᵢ) by Cauchy and Schwarz.

        Differs from the paper: we have its statement alone, and this proof is ours, in general η
        and with δ. For sums and exact solvers, and an update every step; None otherwise.
        """
        group = self.param_groups[0]
        if group["beta2"] < 1 or group["update_every"] > 1 or group["solver"] not in EXACT:
            return None
        values = torch.linalg.eigvalsh(moment).clamp_min(0).flip(0)
        size, rows = len(values), group["rank"] + 1
        trace = float(values.sqrt().sum())
        escaped = math.sqrt(size * max(size - rows, 0) * _escape(values, rows))
        ridge = size * math.sqrt(group["delta"])
        return weight(diameter, group["lr"]) * trace + (
            weight(diameter, group["lr"]) - group["lr"]
        ) * (escaped + ridge)


def _escape(values: Tensor, rows: int) -> float:
    """Return Ω = min_{k<ℓ} Σ_{i>k} λᵢ/(ℓ − k) of eigenvalues (d,), descending; ℓ is `rows`."""
    behind = values.flip(0).cumsum(0).flip(0)[:rows]  # Σ_{i>k} λᵢ, k from 0
    left = rows - torch.arange(len(behind), device=values.device)
    return float((behind / left).min())
