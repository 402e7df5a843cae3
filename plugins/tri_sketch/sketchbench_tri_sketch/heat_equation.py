"""A semilinear heat equation under control, its objective, and its adjoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor

Control = Literal["distributed", "boundary"]
WIDTH = 0.08  # of the bump, its standard deviation


class HeatEquation:
    """y_t = κ·y_xx − c·y³ + Bu on (0, 1) × (0, 1), y = 0 at both ends and at first.

    n points inside, T steps of size τ = 1/T, implicit in the diffusion, explicit in the reaction:
    y_{t+1} = S(y_t + τ(Bu_t − c·y_t³)) with S = (I + τκA)⁻¹ and A the second difference over h².
    Controls (T, m) are `distributed` (m = n, B = I) or the value at the right `boundary` (m = 1).
    J(u) = ½Σ‖y_t − d_t‖²·τh + ½α‖u‖², with ‖u‖² = Σ|u_t|²·τw, w = h for distributed control and
    1 for boundary control. The states wanted, d_t, are a Gaussian bump of height 1 that travels
    from x = ¼ to ¾. In double precision.
    """

    def __init__(
        self,
        points: int,
        steps: int,
        diffusion: float,
        reaction: float,
        alpha: float,
        control: Control,
        device: torch.device,
    ) -> None:
        self.points, self.steps, self.alpha = points, steps, alpha
        self._step, self._cell, self._reaction = 1 / steps, 1 / (points + 1), reaction
        eye = torch.eye(points, dtype=torch.float64, device=device)
        second = 2 * eye - eye.roll(1, 0).tril() - eye.roll(-1, 0).triu()
        scale = diffusion / self._cell**2
        self._solve = torch.linalg.inv(eye + self._step * scale * second)
        self._effect, self._weight = eye, self._cell  # B and w
        if control == "boundary":
            self._effect, self._weight = scale * eye[:, -1:], 1.0
        places = eye.new_ones(points).cumsum(0) * self._cell
        centres = 0.25 + 0.5 * eye.new_ones(steps).cumsum(0) * self._step
        self.wanted = torch.exp(-((places - centres[:, None]) ** 2) / (2 * WIDTH**2))  # (T, n)

    def start(self) -> Tensor:
        """Return the controls that are 1 everywhere (T, m): states from nothing tell nothing."""
        return self._effect.new_ones(self.steps, self._effect.shape[1])

    def advance(self, state: Tensor, control: Tensor) -> Tensor:
        """Return the state (n,) that follows `state` under a control (m,)."""
        pushed = self._effect @ control - self._reaction * state**3
        return self._solve @ (state + self._step * pushed)

    def objective(self, controls: Tensor, seen: Callable[[Tensor], None]) -> Tensor:
        """Return J for controls (T, m); each state y_1, …, y_T is shown once, as it comes."""
        total = self.alpha * self.inner(controls, controls)
        state = self._effect.new_zeros(self.points)
        for control, wanted in zip(controls, self.wanted, strict=True):
            state = self.advance(state, control)
            seen(state)
            total = total + (state - wanted).square().sum() * self._step * self._cell
        return total / 2

    def gradient(self, controls: Tensor, backwards: Iterable[Tensor]) -> Tensor:
        """Return J's gradient (T, m) in the inner product of controls; states come y_T to y_1.

        p_t = ∂J/∂y_t obeys p_t = τh(y_t − d_t) + (1 − 3τc·y_t²)·Sp_{t+1}; the gradient's row t is
        αu_t + BᵀSp_{t+1} / w.
        """
        found = self.alpha * controls
        ahead = self._effect.new_zeros(self.points)  # S p_{t+1}
        for step, state in zip(reversed(range(self.steps)), backwards, strict=True):
            slope = 1 - 3 * self._step * self._reaction * state.square()
            miss = (state - self.wanted[step]) * self._step * self._cell
            ahead = self._solve.mT @ (miss + slope * ahead)
            found[step] += self._effect.mT @ ahead / self._weight
        return found

    def inner(self, left: Tensor, right: Tensor) -> Tensor:
        """Return the inner product of two controls (T, m), a scalar."""
        return (left * right).sum() * self._step * self._weight


class Whole:
    """Every state is kept: T·n numbers."""

    def __init__(self, equation: HeatEquation) -> None:
        self._states: list[Tensor] = []

    def keep(self, state: Tensor) -> None:
        """Take in the next state."""
        self._states.append(state)

    def backwards(self, controls: Tensor) -> Iterator[Tensor]:
        """Yield the states from the last to the first."""
        yield from reversed(self._states)

    def numbers(self) -> int:
        """Return how many numbers are kept."""
        return sum(state.numel() for state in self._states)


class Checkpointed:
    """Every √T-th state is kept, those between are computed again: about 2n√T numbers."""

    def __init__(self, equation: HeatEquation) -> None:
        self._equation = equation
        self._every = math.isqrt(equation.steps)
        self._states: list[Tensor] = [torch.zeros_like(equation.wanted[0])]  # y_0, y_e, y_2e, …
        self._seen = 0

    def keep(self, state: Tensor) -> None:
        """Take in the next state."""
        self._seen += 1
        if self._seen % self._every == 0 and self._seen < self._equation.steps:
            self._states.append(state)

    def backwards(self, controls: Tensor) -> Iterator[Tensor]:
        """Yield the states from the last to the first, a stretch at a time."""
        for index, start in reversed(list(enumerate(self._states))):
            stretch, state = [], start
            for control in controls[index * self._every :][: self._longest(index)]:
                state = self._equation.advance(state, control)
                stretch.append(state)
            yield from reversed(stretch)

    def numbers(self) -> int:
        """Return how many numbers are kept: checkpoints, and the stretch being computed again."""
        longest = max(map(self._longest, range(len(self._states))))
        return (len(self._states) + longest) * self._equation.points

    def _longest(self, index: int) -> int:
        """Return the number of states of a stretch."""
        return min(self._every, self._equation.steps - index * self._every)


class Forgotten:
    """Nothing is kept, and every state is taken for 0: the control."""

    def __init__(self, equation: HeatEquation) -> None:
        self._nothing = torch.zeros_like(equation.wanted)

    def keep(self, state: Tensor) -> None:
        """Forget it."""

    def backwards(self, controls: Tensor) -> Iterator[Tensor]:
        """Yield zeros."""
        yield from self._nothing

    def numbers(self) -> int:
        """Return 0."""
        return 0
