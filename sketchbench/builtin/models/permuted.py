"""The same function with its hidden neurons in another order."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Generator, nn

from sketchbench import Field, Model, Shapes


class Permuted(Model):
    """A perceptron whose hidden neurons, and inputs if asked for, are put in a random order.

    It computes what the perceptron does from the same weights, to rounding, and exact training
    keeps that so: whatever depends on the order (blocks of a preconditioner) is all that differs.
    With `inputs` the first layer reads its inputs in that order: neighbouring pixels then share no
    block. Order `seed` 0 is the natural one.
    """

    name = "permuted"
    model: Model = Field(description="A stack of linear layers: `mlp`.")
    seed: int = Field(1, ge=0, description="Of the orders; 0 leaves everything as it is.")
    inputs: bool = Field(False, description="Whether inputs are put in another order as well.")

    def build(self, shapes: Shapes) -> nn.Module:
        """Build the model and reorder it; raise `ValueError` where it isn't a perceptron."""
        network = self.model.build(shapes)
        layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
        owned = sum(p.numel() for layer in layers for p in layer.parameters())
        chained = all(a.out_features == b.in_features for a, b in pairwise(layers))
        if not layers or not chained or owned != sum(p.numel() for p in network.parameters()):
            raise ValueError(
                f"permuted: '{self.model.name}' isn't a stack of linear layers; it takes `mlp`"
            )
        if not self.seed:
            return network
        rng = Generator().manual_seed(self.seed)
        with torch.no_grad():
            for before, after in pairwise(layers):
                order = torch.randperm(before.out_features, generator=rng)
                before.weight.copy_(before.weight[order])
                if before.bias is not None:
                    before.bias.copy_(before.bias[order])
                after.weight.copy_(after.weight[:, order])
            if not self.inputs:
                return network
            order = torch.randperm(math.prod(shapes.inputs), generator=rng)
            layers[0].weight.copy_(layers[0].weight[:, order])
        return nn.Sequential(_Reordered(order), network)


class _Reordered(nn.Module):
    """(n, ...) -> (n, features), reordered."""

    order: torch.Tensor

    def __init__(self, order: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("order", order)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, self.order]
