"""torch's own optimizers as recipes; every default is torch's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from pydantic import model_validator
from torch import nn

from sketchbench import Field, Optimizer
from sketchbench_dense.state import copies, counters, declaring, trained

LR = "η, step size; schedules multiply it."
MOMENTS = {"exp_avg": "momentum", "exp_avg_sq": "second_moment"}  # of Adam and AdamW


class SGD(Optimizer):
    """Stochastic gradient descent with momentum. [Sutskever et al. 2013]"""

    name = "sgd"
    lr: float = Field(1e-3, ge=0, description=LR)
    momentum: float = Field(0.0, ge=0, lt=1, description="Weight of the previous step.")
    nesterov: bool = Field(False, description="Look ahead along the momentum.")
    weight_decay: float = Field(0.0, ge=0, description="λ of the penalty λ‖w‖²/2.")

    @model_validator(mode="after")
    def _has_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("optimizer 'sgd': nesterov needs a momentum above 0")
        return self

    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return `torch.optim.SGD`."""
        parts = {"momentum_buffer": "momentum"} if self.momentum else {}
        return declaring(torch.optim.SGD(params, **_fields(self)), parts)

    def state_bytes(self, params: Sequence[nn.Parameter]) -> Mapping[str, int]:
        """Return one copy of the parameters, or nothing without momentum."""
        return {"momentum": copies(trained(params))} if self.momentum else {}


class Adam(Optimizer):
    """Adam: steps divided by the root of a running second moment. [Kingma & Ba 2015]"""

    name = "adam"
    lr: float = Field(1e-3, ge=0, description=LR)
    betas: tuple[float, float] = Field((0.9, 0.999), description="Decay of the two moments.")
    eps: float = Field(1e-8, ge=0, description="Added to the root of the second moment.")
    weight_decay: float = Field(0.0, ge=0, description="λ of the penalty λ‖w‖²/2.")

    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return `torch.optim.Adam`."""
        return declaring(torch.optim.Adam(params, **_fields(self)), MOMENTS)

    def state_bytes(self, params: Sequence[nn.Parameter]) -> Mapping[str, int]:
        """Return two copies of the parameters and the step counters."""
        return moment_bytes(params)


class AdamW(Optimizer):
    """Adam with weight decay outside the moments. [Loshchilov & Hutter 2019]"""

    name = "adamw"
    lr: float = Field(1e-3, ge=0, description=LR)
    betas: tuple[float, float] = Field((0.9, 0.999), description="Decay of the two moments.")
    eps: float = Field(1e-8, ge=0, description="Added to the root of the second moment.")
    weight_decay: float = Field(1e-2, ge=0, description="λ: weights shrink by 1 − ηλ a step.")

    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return `torch.optim.AdamW`."""
        return declaring(torch.optim.AdamW(params, **_fields(self)), MOMENTS)

    def state_bytes(self, params: Sequence[nn.Parameter]) -> Mapping[str, int]:
        """Return two copies of the parameters and the step counters."""
        return moment_bytes(params)


class Adagrad(Optimizer):
    """Steps divided by the root of the summed squared gradients. [Duchi et al. 2011]"""

    name = "adagrad"
    lr: float = Field(1e-2, ge=0, description=LR)
    lr_decay: float = Field(0.0, ge=0, description="Step t has η/(1 + (t − 1)·decay).")
    weight_decay: float = Field(0.0, ge=0, description="λ of the penalty λ‖w‖²/2.")
    initial_accumulator_value: float = Field(0.0, ge=0, description="The sum before step 1.")
    eps: float = Field(1e-10, ge=0, description="Added to the root of the sum.")

    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return `torch.optim.Adagrad`."""
        return declaring(torch.optim.Adagrad(params, **_fields(self)), {"sum": "second_moment"})

    def state_bytes(self, params: Sequence[nn.Parameter]) -> Mapping[str, int]:
        """Return a copy of the parameters and the step counters: of frozen ones, too."""
        return {"second_moment": copies(params), "rest": counters(params)}


class Adafactor(Optimizer):
    """A second moment kept as one row and one column a matrix. [Shazeer & Stern 2018]"""

    name = "adafactor"
    lr: float = Field(1e-2, ge=0, description="Largest relative step size; schedules multiply it.")
    beta2_decay: float = Field(-0.8, le=0, description="The second moment decays by 1 − t^this.")
    eps: tuple[float | None, float] = Field(
        (None, 1e-3),
        description="Least root of the second moment (null: machine ε); least ‖w‖ RMS.",
    )
    d: float = Field(1.0, ge=1, description="Steps whose RMS is larger are clipped to it.")
    weight_decay: float = Field(0.0, ge=0, description="λ: weights shrink by 1 − ηλ a step.")

    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return `torch.optim.Adafactor`."""
        keys = ("row_var", "col_var", "variance")
        return declaring(
            torch.optim.Adafactor(params, **_fields(self)), dict.fromkeys(keys, "second_moment")
        )

    def state_bytes(self, params: Sequence[nn.Parameter]) -> Mapping[str, int]:
        """Return a row and a column a matrix, a copy of each vector, and the step counters."""
        taught = trained(params)
        moment = sum(p.element_size() * _factored(p.shape) for p in taught)
        return {"second_moment": moment, "rest": counters(taught)}


def moment_bytes(params: Iterable[nn.Parameter]) -> dict[str, int]:
    """Return the bytes that Adam and AdamW keep, by part."""
    taught = trained(params)
    each = copies(taught)
    return {"momentum": each, "second_moment": each, "rest": counters(taught)}


def _factored(shape: Sequence[int]) -> int:
    """Return the entries that Adafactor keeps of a parameter; leading dimensions are a batch."""
    if len(shape) < 2:
        return math.prod(shape)
    *batch, rows, columns = shape
    return math.prod(batch) * (rows + columns)


def _fields(recipe: Optimizer) -> dict[str, Any]:
    """Return the recipe's parameters, which are the arguments of torch's class."""
    return {name: getattr(recipe, name) for name in type(recipe).model_fields}
