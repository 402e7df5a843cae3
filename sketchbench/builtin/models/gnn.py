"""A graph network for molecules [Xu et al. 2019]."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sketchbench import Field, Model, Shapes


class GNN(Model):
    """Graph isomorphism network: layers of h ← perceptron(h + Σ over neighbours of h), then a sum.

    Takes graphs (nodes, features + nodes): features of each node, then its row of the adjacency
    matrix; rows of 0 are no nodes. [Xu et al. 2019, eq. 4.1, ε = 0]

    Differs from the paper: 1. the outputs read the last layer's sum over nodes alone, not every
    layer's; 2. there is no batch norm, so that every example is one by itself.
    """

    name = "gnn"
    layers: int = Field(3, ge=1, description="Rounds of message passing.")
    width: int = Field(64, ge=1, description="Entries of a node's vector.")

    def build(self, shapes: Shapes) -> nn.Sequential:
        """Return the network, with torch's default initialisation; raise `ValueError` if unfit."""
        if len(shapes.inputs) != 2 or shapes.inputs[1] <= shapes.inputs[0]:
            raise ValueError(
                f"gnn: inputs of shape {shapes.inputs} don't fit; it takes graphs (nodes, features "
                "+ nodes)"
            )
        nodes, columns = shapes.inputs
        features = columns - nodes
        widths = [features, *[self.width] * self.layers]
        rounds = [_Round(fan_in, self.width) for fan_in in widths[:-1]]
        head = nn.Linear(self.width, shapes.outputs)
        return nn.Sequential(_Loops(nodes), *rounds, _Sum(nodes), head)


class _Loops(nn.Module):
    """Joins every node to itself: (n, nodes, features + nodes), the diagonal says who is there."""

    def __init__(self, nodes: int) -> None:
        super().__init__()
        self.nodes = nodes

    def forward(self, graph: Tensor) -> Tensor:
        there = graph.any(-1).to(graph.dtype)
        features, adjacency = graph[..., : -self.nodes], graph[..., -self.nodes :]
        return torch.cat([features, adjacency + torch.diag_embed(there)], dim=-1)


class _Round(nn.Module):
    """(n, nodes, fan_in + nodes) -> (n, nodes, width + nodes): the adjacency goes along."""

    def __init__(self, fan_in: int, width: int) -> None:
        super().__init__()
        self.fan_in = fan_in
        self.perceptron = nn.Sequential(
            nn.Linear(fan_in, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()
        )

    def forward(self, graph: Tensor) -> Tensor:
        nodes, adjacency = graph[..., : self.fan_in], graph[..., self.fan_in :]
        there = adjacency.diagonal(dim1=-2, dim2=-1).unsqueeze(-1)
        mixed = self.perceptron(adjacency @ nodes) * there
        return torch.cat([mixed, adjacency], dim=-1)


class _Sum(nn.Module):
    """(n, nodes, width + nodes) -> (n, width)."""

    def __init__(self, nodes: int) -> None:
        super().__init__()
        self.nodes = nodes

    def forward(self, graph: Tensor) -> Tensor:
        return graph[..., : -self.nodes].sum(-2)
