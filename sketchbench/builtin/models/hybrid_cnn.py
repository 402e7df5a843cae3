"""The convolutional-dense hybrid."""

from __future__ import annotations

from torch import nn

from sketchbench import Model, Shapes


class HybridCNN(Model):
    """Two 3x3 convolutions (32, 64 channels) with 2x2 max pooling, then 512, 512 and the outputs.

    Most parameters sit in the dense half, which is where activation sketches act. Takes images
    (c, h, w) with h and w divisible by 4: 2.4 million parameters for CIFAR-10.
    """

    name = "hybrid-cnn"

    def build(self, shapes: Shapes) -> nn.Sequential:
        """Return the network, with torch's default initialisation; raise `ValueError` if unfit."""
        if len(shapes.inputs) != 3 or shapes.inputs[1] % 4 or shapes.inputs[2] % 4:
            raise ValueError(
                f"hybrid-cnn: inputs of shape {shapes.inputs} don't fit; it takes (channels, "
                "height, width) with height and width divisible by 4"
            )
        channels, height, width = shapes.inputs
        return nn.Sequential(
            nn.Sequential(nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            nn.Flatten(),
            nn.Sequential(nn.Linear(64 * (height // 4) * (width // 4), 512), nn.ReLU()),
            nn.Sequential(nn.Linear(512, 512), nn.ReLU()),
            nn.Linear(512, shapes.outputs),
        )
