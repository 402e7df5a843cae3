"""A network of coordinates that says what it is and what its Laplacian is."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from torch import nn

from sketchbench import Field, Model, Shapes

if TYPE_CHECKING:
    from torch import Tensor


class PINN(Model):
    """Tanh network u of points x (n, d), giving u and Δu (n, 2) [Raissi et al. 2019].

    With `derivatives: backward`, autograd differentiates u twice, and a backward pass for the
    weights goes through both. With `forward`, value, gradient and Laplacian are carried along
    [Li et al. 2023, "Forward Laplacian"], as 2 + d rows a point through one call of each linear
    layer, so that a single backward pass meets the layers: those that replace them (activation
    sketches) need no second derivative. Both give the same function up to rounding.
    """

    name = "pinn"
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (50, 50, 50, 50), min_length=1, description="Widths of the hidden layers."
    )
    derivatives: Literal["forward", "backward"] = Field(
        "forward", description="How Δu is had: carried forward, or by autograd, twice."
    )

    def build(self, shapes: Shapes) -> nn.Module:
        """Return the network, with Xavier's weights and no biases to begin with."""
        if len(shapes.inputs) != 1 or shapes.outputs != 2:
            raise ValueError(
                f"pinn: needs points (d,) and the 2 outputs u and Δu; got inputs of shape "
                f"{shapes.inputs} and {shapes.outputs} outputs"
            )
        widths = (*shapes.inputs, *self.hidden, 1)
        return (_Forward if self.derivatives == "forward" else _Backward)(widths)


class _Network(nn.Module):
    """Linear layers with tanh between them; apart, since what follows is no plain tanh."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*sizes) for sizes in pairwise(widths))
        for layer in self.layers:
            nn.init.xavier_normal_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]


class _Backward(_Network):
    def forward(self, points: Tensor) -> Tensor:
        """Map points (n, d) to u and Δu (n, 2), by differentiating u twice."""
        train = torch.is_grad_enabled()
        with torch.enable_grad():
            points = points.detach().requires_grad_()
            value = self._value(points)
            (slope,) = torch.autograd.grad(value.sum(), points, create_graph=True)
            laplacian = torch.zeros_like(value[:, 0])
            for axis, along in enumerate(slope.unbind(1)):
                (curve,) = torch.autograd.grad(
                    along.sum(), points, create_graph=train, retain_graph=True
                )
                laplacian = laplacian + curve[:, axis]
            found = torch.stack([value[:, 0], laplacian], 1)
        return found if train else found.detach()

    def _value(self, points: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            points = layer(points).tanh()
        out: Tensor = last(points)
        return out


class _Forward(_Network):
    def forward(self, points: Tensor) -> Tensor:
        """Map points (n, d) to u and Δu (n, 2); rows are u, its d derivatives, and Δu."""
        rows = torch.cat([points[None], _axes(points), torch.zeros_like(points)[None]])
        *hidden, last = self.layers
        for layer in hidden:
            rows = _tanh(_affine(layer, rows))
        out = _affine(last, rows)
        return torch.cat([out[0], out[-1]], 1)


def _axes(points: Tensor) -> Tensor:
    """Return dx/dx_i for points x (n, d) as (d, n, d)."""
    count, axes = points.shape
    return torch.eye(axes).to(points)[:, None].expand(axes, count, axes)


def _affine(layer: nn.Module, rows: Tensor) -> Tensor:
    """Apply a linear layer to rows (2 + d, n, m) at once, its bias to the first of them alone."""
    derived = torch.arange(len(rows), device=rows.device)[:, None, None] > 0
    out: Tensor = layer(rows)
    return out - derived.to(out.dtype) * layer.bias  # type: ignore[operator]


def _tanh(rows: Tensor) -> Tensor:
    """Apply tanh to rows (2 + d, n, m): value, derivatives and Laplacian, by the chain rule."""
    value, slopes, laplacian = rows[0].tanh(), rows[1:-1], rows[-1]
    first = 1 - value.square()
    curved = first * (laplacian - 2 * value * slopes.square().sum(0))
    return torch.cat([value[None], first * slopes, curved[None]])
