"""The multilayer perceptron."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

from torch import nn

from sketchbench import Field, Model, Shapes

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "silu": nn.SiLU}


class MLP(Model):
    """Fully connected layers over the flattened input, with one non-linearity.

    One top-level child a layer: Flatten, then (Linear, activation) for each width, then Linear.
    """

    name = "mlp"
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (512, 512), description="Widths of the hidden layers; none makes a linear model."
    )
    activation: Literal["relu", "tanh", "gelu", "silu"] = Field(
        "relu", description="The non-linearity after each hidden layer."
    )

    def build(self, shapes: Shapes) -> nn.Sequential:
        """Return the network, with torch's default initialisation."""
        widths = (math.prod(shapes.inputs), *self.hidden)
        layers = [
            nn.Sequential(nn.Linear(fan_in, fan_out), _ACTIVATIONS[self.activation]())
            for fan_in, fan_out in pairwise(widths)
        ]
        return nn.Sequential(nn.Flatten(), *layers, nn.Linear(widths[-1], shapes.outputs))
