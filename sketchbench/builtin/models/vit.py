"""The vision transformer: patches of an image as tokens. [Dosovitskiy et al. 2021]"""

from __future__ import annotations

from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import model_validator
from torch import Tensor, nn

from sketchbench import Field, Model, Shapes
from sketchbench.builtin.models.transformer import Block, start


class ViT(Model):
    """Vision transformer: patches, embedded linearly with learned positions, and GPT's blocks.

    Attention is over all patches, norms come first in a block. Takes images (c, h, w), with h and
    w divisible by `patch`. Top-level children: the embedding, the blocks, the head. 0.2 million
    parameters as it is. [Dosovitskiy et al. 2021, §3.1]

    Differs from the paper:
    1. The head reads the mean over patches unless `pool` says class token: as good, and simpler
       [Beyer et al. 2022].
    2. The head is one linear layer, the paper's form for fine-tuning.
    3. Weights start as in GPT-2, normal of deviation 0.02: one start for both transformers here.
    4. Dropout acts on attention weights too, and not between a perceptron's two layers.
    """

    name = "vit"
    patch: int = Field(4, ge=1, description="Height and width of a patch, in pixels.")
    layers: int = Field(4, ge=1, description="Blocks.")
    width: int = Field(64, ge=1, description="Entries of a patch's vector.")
    heads: int = Field(4, ge=1, description="Attention heads; they share out the width.")
    pool: Literal["mean", "class"] = Field(
        "mean", description="What the head reads: the patches' mean, or a class token."
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Probability of dropping an embedding, weight or update."
    )

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads {self.heads} don't divide width {self.width}")
        return self

    def build(self, shapes: Shapes) -> nn.Sequential:
        """Return the network; raise `ValueError` if unfit."""
        size = self.patch
        if len(shapes.inputs) != 3 or shapes.inputs[1] % size or shapes.inputs[2] % size:
            raise ValueError(
                f"vit: inputs of shape {shapes.inputs} don't fit; it takes (channels, height, "
                f"width) with height and width divisible by patch {size}"
            )
        network = nn.Sequential(
            _Patches(shapes.inputs, size, self.width, self.pool == "class", self.dropout),
            *(
                Block(self.width, self.heads, self.dropout, causal=False)
                for _ in range(self.layers)
            ),
            nn.Sequential(
                _Pool(self.pool == "class", self.width), nn.Linear(self.width, shapes.outputs)
            ),
        )
        start(network, self.layers)
        return network


class _Patches(nn.Module):
    """Images (n, c, h, w) -> vectors (n, t, width): each patch's, and the position's."""

    def __init__(
        self, shape: tuple[int, ...], size: int, width: int, token: bool, dropout: float
    ) -> None:
        super().__init__()
        channels, height, breadth = shape
        self.size = size
        self.projection = nn.Linear(channels * size**2, width)
        count = (height // size) * (breadth // size)
        self.token = nn.Parameter(torch.zeros(1, width)) if token else None
        self.positions = nn.Parameter(torch.zeros(count + token, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        patches = F.unfold(images, self.size, stride=self.size).mT  # (n, t, c·size²)
        x = self.projection(patches)
        if self.token is not None:
            x = torch.cat([self.token.expand(len(x), 1, -1), x], dim=1)
        out: Tensor = self.dropout(x + self.positions)
        return out


class _Pool(nn.Module):
    """Vectors (n, t, width) -> (n, width): their mean, or the first, behind a norm."""

    def __init__(self, token: bool, width: int) -> None:
        super().__init__()
        self.token = token
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x)
        return normed[:, 0] if self.token else normed.mean(1)
