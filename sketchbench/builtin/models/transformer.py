"""The decoder-only transformer of language models [Radford et al. 2019]."""

from __future__ import annotations

import math
from typing import Self

import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from sketchbench import Field, Model, Shapes

STD = 0.02  # of every weight at the start, before residual projections are scaled
RESIDUAL = ("attention.projection.weight", "mlp.2.weight")  # of a block, into the sum


class GPT(Model):
    """Decoder-only transformer: causal attention and a GELU perceptron of 4x the width a block.

    Norms come first in a block, positions are learned, residual projections start smaller by
    √(2·layers). Takes token ids (n, T), gives logits (n, T, V); T and V are the task's. Top-level
    children: the embedding, the blocks, the head. [Radford et al. 2019, §2.3]

    Differs from the paper:
    1. The head has weights of its own, so that every parameter belongs to one block.
    2. GELU is exact, not its tanh approximation.
    """

    name = "gpt"
    layers: int = Field(6, ge=1, description="Blocks.")
    width: int = Field(384, ge=1, description="Entries of a token's vector.")
    heads: int = Field(6, ge=1, description="Attention heads; they share out the width.")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Probability of dropping an embedding, weight or update."
    )

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} don't divide width {self.width}")
        return self

    def build(self, shapes: Shapes) -> nn.Sequential:
        """Return the network, initialised as in GPT-2; raise `ValueError` if unfit."""
        if len(shapes.inputs) != 1:
            raise ValueError(
                f"gpt: inputs of shape {shapes.inputs} don't fit; it takes token ids (context,)"
            )
        network = nn.Sequential(
            _Embedding(shapes.outputs, shapes.inputs[0], self.width, self.dropout),
            *(Block(self.width, self.heads, self.dropout) for _ in range(self.layers)),
            nn.Sequential(
                nn.LayerNorm(self.width), nn.Linear(self.width, shapes.outputs, bias=False)
            ),
        )
        start(network, self.layers)
        return network


def start(network: nn.Module, layers: int) -> None:
    """Draw the weights of a transformer of so many blocks as in GPT-2; biases start at 0."""
    scaled = STD / math.sqrt(2 * layers)
    for name, parameter in network.named_parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=scaled if name.endswith(RESIDUAL) else STD)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)


class _Embedding(nn.Module):
    """Token ids (n, t) -> vectors (n, t, width): the token's and the position's."""

    def __init__(self, vocabulary: int, context: int, width: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, ids: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.tokens(ids) + self.positions.weight[: ids.shape[1]])
        return out


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.heads, self.dropout, self.causal = heads, dropout, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        dropped = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropped, is_causal=self.causal)
        out: Tensor = self.projection(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """Attention and a perceptron, each behind a norm and added to what came in (n, t, width)."""

    def __init__(self, width: int, heads: int, dropout: float, causal: bool = True) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = _Attention(width, heads, dropout, causal)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return x (n, t, width), updated twice."""
        x = x + self.dropout(self.attention(self.norm1(x)))
        out: Tensor = x + self.dropout(self.mlp(self.norm2(x)))
        return out
