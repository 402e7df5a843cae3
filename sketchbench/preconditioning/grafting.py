"""Grafts: methods whose step gives the preconditioned one its length. [Agarwal et al. 2020]

With gradient G, its graft D and the preconditioned gradient P, a tensor's update is
P·‖D‖/‖P‖ in the Frobenius norm, and D itself where P is 0 or there is no preconditioner. At step
t = 1, 2, … with β the graft's decay, entry by entry and before any momentum:

    none       D = G, and the update is P, unscaled
    sgd        D = G
    rmsprop    D = G/√(v + 1e-23),   v ← βv + (1 − β)G², not corrected for starting from 0: a first
               step has entries of size 1/√(1 − β)
    adam       D = G/(√(v/(1 − βᵗ)) + 1e-8), v the same; its first moment is left to the momentum
    adafactor  D = G/√v,  v = rcᵀ/mean(r) of a matrix, with r ← r + (m − r)(1 − β)/(1 − βᵗ), m the
               means of the rows of G² + 1e-30, and c the same of columns (so both are corrected
               for starting from 0); a tensor is a matrix with its first (merged) axis as rows; a
               vector's v is kept whole. Steps aren't clipped. [Shazeer & Stern 2018]
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, Protocol

import torch
from torch import Tensor

GraftName = Literal["none", "sgd", "rmsprop", "adam", "adafactor"]

RMSPROP_EPSILON = 1e-23
ADAM_EPSILON = 1e-8
ADAFACTOR_EPSILON = 1e-30


class Graft(Protocol):
    """A method that gives steps their length."""

    def empty(self, merged: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return the shapes of what it keeps, zeros at first, of a tensor of merged dimensions."""

    def direction(
        self, kept: Mapping[str, Tensor], gradient: Tensor, beta2: float, step: int
    ) -> Tensor:
        """Return D (*merged) of the gradient at step 1, 2, …; renew what it keeps in place."""


class Plain:
    """The gradient itself."""

    def empty(self, merged: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return nothing: it keeps nothing."""
        return {}

    def direction(
        self, kept: Mapping[str, Tensor], gradient: Tensor, beta2: float, step: int
    ) -> Tensor:
        """Return the gradient."""
        return gradient


class RMSProp:
    """The gradient over the root of its running square, with or without Adam's correction."""

    def __init__(self, corrected: bool) -> None:
        self._corrected = corrected

    def empty(self, merged: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return one number an entry."""
        return {"squares": merged}

    def direction(
        self, kept: Mapping[str, Tensor], gradient: Tensor, beta2: float, step: int
    ) -> Tensor:
        """Return G/√(v + ε), or G/(√v̂ + ε) corrected."""
        squares = kept["squares"]
        squares.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        if not self._corrected:
            return gradient * (squares + RMSPROP_EPSILON).rsqrt_()
        return gradient / (squares / (1 - beta2**step)).sqrt_().add_(ADAM_EPSILON)


class Adafactor:
    """The gradient over a root of its running square that is kept as one row and one column."""

    def empty(self, merged: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """Return a number a row and a number a column; a number an entry of a vector."""
        if len(merged) < 2:
            return {"squares": merged}
        return {"rows": merged[:1], "columns": (math.prod(merged[1:]),)}

    def direction(
        self, kept: Mapping[str, Tensor], gradient: Tensor, beta2: float, step: int
    ) -> Tensor:
        """Return G/√v̂."""
        fresh = (1 - beta2) / (1 - beta2**step)
        squares = gradient.square() + ADAFACTOR_EPSILON
        if "squares" in kept:
            return gradient * kept["squares"].lerp_(squares, fresh).rsqrt()
        if not gradient.numel():  # there is no mean of nothing
            return gradient
        matrix = squares.flatten(1)
        rows = kept["rows"].lerp_(matrix.mean(1), fresh)
        columns = kept["columns"].lerp_(matrix.mean(0), fresh)
        scaled = gradient.reshape(matrix.shape) * (rows / rows.mean()).rsqrt_().unsqueeze(1)
        return (scaled * columns.rsqrt()).reshape(gradient.shape)


GRAFTS: Mapping[str, Graft] = {
    "none": Plain(),
    "sgd": Plain(),
    "rmsprop": RMSProp(corrected=False),
    "adam": RMSProp(corrected=True),
    "adafactor": Adafactor(),
}


def grafted(preconditioned: Tensor, direction: Tensor) -> Tensor:
    """Return the preconditioned tensor at the length of `direction`; `direction` where it is 0."""
    length = torch.linalg.vector_norm(preconditioned)
    scale = torch.linalg.vector_norm(direction) / length
    return torch.where(length > 0, preconditioned * scale, direction)
