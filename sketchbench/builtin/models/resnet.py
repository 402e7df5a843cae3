"""The residual network for small images [He et al. 2015, §4.2]."""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from sketchbench import Model, Shapes


class ResNet20(Model):
    """ResNet-20 of the CIFAR experiments, with batch norm and parameter-free (A) shortcuts.

    Three stages of three blocks with 16, 32 and 64 channels; 0.27 million parameters. Top-level
    children: the stem, nine blocks, the head. [He et al. 2015, §4.2 and table 6]
    """

    name = "resnet20"

    def build(self, shapes: Shapes) -> nn.Sequential:
        """Return the network, initialised as in [He et al. 2015b]; raise `ValueError` if unfit."""
        if len(shapes.inputs) != 3:
            raise ValueError(
                f"resnet20: inputs of shape {shapes.inputs} don't fit; it takes (channels, "
                "height, width)"
            )
        widths = [16] * 4 + [32] * 3 + [64] * 3
        network = nn.Sequential(
            nn.Sequential(_convolution(shapes.inputs[0], 16, 1), nn.BatchNorm2d(16), nn.ReLU()),
            *(_Block(fan_in, fan_out) for fan_in, fan_out in pairwise(widths)),
            nn.Sequential(_SpatialMean(), nn.Linear(64, shapes.outputs)),
        )
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        return network


class _Block(nn.Module):
    """Two 3x3 convolutions and a shortcut; the first halves the image where channels double."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.stride = fan_out // fan_in
        self.extra = fan_out - fan_in
        self.residual = nn.Sequential(
            _convolution(fan_in, fan_out, self.stride),
            nn.BatchNorm2d(fan_out),
            nn.ReLU(),
            _convolution(fan_out, fan_out, 1),
            nn.BatchNorm2d(fan_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        if self.extra:
            shortcut = x[:, :, :: self.stride, :: self.stride]
            shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, self.extra))
        return F.relu(self.residual(x) + shortcut)


class _SpatialMean(nn.Module):
    """Mean over the image (n, c, h, w) -> (n, c); adaptive pooling isn't deterministic on CUDA."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


def _convolution(fan_in: int, fan_out: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False)
