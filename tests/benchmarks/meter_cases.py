"""Training steps on which meters of memory are compared, and what their tensors come to by hand.

Loaded by path: `tests/benchmarks/meters.py` is a script, `tests/measure` are tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sketchbench import Shapes, Watched
from sketchbench.builtin import GPT
from sketchbench.measure import category

FLOAT, LONG = 4, 8  # bytes


@dataclass
class Case:
    """One training step; gradients are None before it.

    By hand: `hand` is what the tensors alive at the peak come to, by category, where it is known,
    and `kept` what is kept for the backward pass.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    inputs: tuple[Tensor, ...]
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor]
    hand: Mapping[str, int] = field(default_factory=dict)
    kept: int = 0

    @property
    def watched(self) -> Watched:
        """Return what memory belongs to."""
        return Watched(self.model, self.optimizer, self.inputs)

    def step(self) -> None:
        """Take one step."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(self.model, *self.inputs)
        loss.backward()
        self.optimizer.step()

    def prepare(self) -> None:
        """Take a step, so that the optimizer's state is there, and drop the gradients."""
        self.step()
        self.optimizer.zero_grad(set_to_none=True)


class SketchedProduct(torch.autograd.Function):
    """x Wᵀ + b, whose backward knows x by a Gaussian sketch S x of `size` rows alone.

    The sketch is an attribute of the context, where hooks of saved tensors don't look.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, size, seed):  # type: ignore[no-untyped-def]
        ctx.seed, ctx.size, ctx.rows = seed, size, len(x)
        with category("sketch"):
            ctx.sketch = SketchedProduct.matrix(ctx) @ x
        ctx.save_for_backward(weight)
        return torch.addmm(bias, x, weight.T)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (weight,) = ctx.saved_tensors
        to_weight = (SketchedProduct.matrix(ctx) @ grad).T @ ctx.sketch
        return grad @ weight, to_weight, grad.sum(0), None, None

    @staticmethod
    def matrix(ctx) -> Tensor:  # type: ignore[no-untyped-def]
        """Return S (size, rows), the same in both passes."""
        drawn = torch.randn(ctx.size, ctx.rows, generator=torch.Generator().manual_seed(ctx.seed))
        return drawn / ctx.size**0.5


class SketchedLinear(nn.Linear):
    """A linear layer that keeps a sketch of its input (n, d): `size` rows instead of n."""

    size, seed = 64, 0

    def forward(self, x: Tensor) -> Tensor:
        """Return x Wᵀ + b."""
        out: Tensor = SketchedProduct.apply(x, self.weight, self.bias, self.size, self.seed)
        return out


class Checkpointed(nn.Module):
    """A sequence of modules, each of which computes its activations again in backward."""

    def __init__(self, modules: nn.Sequential) -> None:
        super().__init__()
        self.inner = modules

    def forward(self, x: Tensor) -> Tensor:
        """Return what the sequence returns."""
        first, *rest = self.inner
        x = first(x)
        for module in rest:
            x = checkpoint(module, x, use_reentrant=False)
        return x


def _mse(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(model(x), y)


def _cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x).flatten(0, -2), y.flatten())


def _sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01)


def _adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-3, foreach=False)


def _mlp(
    optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    width: int,
    batch: int,
    layer: type[nn.Linear] = nn.Linear,
) -> Case:
    """Return four layers with ReLU between and mean squared error; the rest of `hand` is theirs.

    The scalar that torch's CPU kernel returns for the error has a storage as large as the outputs.
    """
    layers = [each for _ in range(4) for each in (layer(width, width), nn.ReLU())]
    model = nn.Sequential(*layers[:-1])
    inputs = torch.randn(batch, width), torch.randn(batch, width)
    rows, parameters = batch * width * FLOAT, 4 * (width * width + width) * FLOAT
    hand = {
        "parameters": parameters,
        "inputs": 2 * rows,
        "gradients": parameters,
        "activations": rows,  # the loss, which the step holds; the others are gone by then
    }
    kept = 5 * rows  # three outputs of ReLU, the model's, the loss
    return Case(model, optimizer(model), inputs, _mse, hand, kept)


def mlp_sgd(width: int = 2048, batch: int = 512) -> Case:
    """Return the perceptron with plain SGD: its peak is at the last gradient of a bias."""
    case = _mlp(_sgd, width, batch)
    rows = batch * width * FLOAT
    seed = {"gradients": case.hand["gradients"] + FLOAT}  # the loss's own gradient, 1
    case.hand = case.hand | seed | {"backward_temporaries": rows}  # an output's gradient
    return case


def mlp_adam(width: int = 2048, batch: int = 512) -> Case:
    """Return the perceptron with Adam: its peak is in the step of a weight that isn't the first."""
    case = _mlp(_adam, width, batch)
    weight, bias = width * width * FLOAT, width * FLOAT
    moments = 2 * case.hand["parameters"] + 8 * FLOAT  # and a count of steps each
    # The root of the second moment, what it is divided into, and the previous bias's.
    case.hand = case.hand | {
        "optimizer_state": moments,
        "optimizer_temporaries": 2 * weight + bias,
    }
    return case


def sketched_mlp_sgd(width: int = 2048, batch: int = 512) -> Case:
    """Return the perceptron of sketched layers with plain SGD.

    Attributes of a context live as long as the graph, so all four sketches are there at the peak.
    """
    case = _mlp(_sgd, width, batch, SketchedLinear)
    rows = batch * width * FLOAT
    sketches = 4 * SketchedLinear.size * width * FLOAT
    case.hand = case.hand | {
        "gradients": case.hand["gradients"] + FLOAT,
        "sketches": sketches,
        "backward_temporaries": 2 * rows,  # of the first layer's output and of its input
    }
    case.kept += sketches  # ReLU keeps its outputs as ever
    return case


def conv_adam(width: int = 32, batch: int = 32) -> Case:
    """Return two convolutions with batch norms, with Adam."""
    model = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * width, 10),
    )
    inputs = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))
    first, second = batch * width * 32**2, batch * 2 * width * 16**2
    kept = (
        2 * (first + second)  # what the norms take, what ReLU gives
        + 2 * 3 * width  # the norms' means and inverse deviations
        + batch * 2 * width  # what the linear layer takes
        + batch * 10  # the logarithms of the probabilities
        + 2  # the loss, and the sum of its weights
    )
    return Case(model, _adam(model), inputs, _cross_entropy, kept=kept * FLOAT)


def _gpt(
    layers: int, width: int, batch: int, context: int, vocabulary: int
) -> tuple[nn.Sequential, tuple[Tensor, Tensor]]:
    heads = 4
    model = GPT(layers=layers, width=width, heads=heads).build(Shapes((context,), vocabulary))
    ids = torch.randint(0, vocabulary, (batch, context + 1))
    return model, (ids[:, :-1].clone(), ids[:, 1:].clone())


def gpt_adam(
    layers: int = 12, width: int = 256, batch: int = 8, context: int = 128, vocabulary: int = 1000
) -> Case:
    """Return a transformer with Adam: its peak is at the first large operation of backward.

    A block keeps 16 numbers for each token and entry: its input (1), the norms' outputs (2), the
    queries, keys and values (3), the attention's output (1), the sum (1), the perceptron's hidden
    values before and after GELU (8); and for each token the norms' two statistics and a logarithm
    for each head.
    """
    model, inputs = _gpt(layers, width, batch, context, vocabulary)
    case = Case(model, _adam(model), inputs, _cross_entropy)
    tokens = batch * context
    sizes = [parameter.numel() for parameter in model.parameters()]
    block = 16 * tokens * width + 4 * tokens + 4 * tokens
    head = 2 * tokens * width + 2 * tokens
    log_probabilities = tokens * vocabulary
    case.kept = (layers * block + head + log_probabilities + 2) * FLOAT
    case.hand = {
        "parameters": sum(sizes) * FLOAT,
        "inputs": 2 * tokens * LONG,
        "gradients": FLOAT,  # the loss's own, 1
        "optimizer_state": (2 * sum(sizes) + len(sizes)) * FLOAT,
        "activations": case.kept - FLOAT,  # the sum of the loss's weights is gone
        "backward_temporaries": 2 * log_probabilities * FLOAT,
    }
    return case


def checkpointed_gpt_adam(
    layers: int = 12, width: int = 256, batch: int = 8, context: int = 128, vocabulary: int = 1000
) -> Case:
    """Return the transformer with each block and the head checkpointed: it keeps their inputs."""
    model, inputs = _gpt(layers, width, batch, context, vocabulary)
    case = Case(Checkpointed(model), _adam(model), inputs, _cross_entropy)
    tokens = batch * context
    case.kept = ((layers + 1) * tokens * width + tokens * vocabulary + 2) * FLOAT
    return case


CASES: Mapping[str, tuple[str, Callable[..., Case]]] = {
    "mlp-sgd": ("MLP, SGD", mlp_sgd),
    "mlp-adam": ("MLP, Adam", mlp_adam),
    "sketched-mlp-sgd": ("MLP of sketched layers, SGD", sketched_mlp_sgd),
    "conv-adam": ("convolutions with batch norm, Adam", conv_adam),
    "gpt-adam": ("transformer, Adam", gpt_adam),
    "checkpointed-gpt-adam": ("transformer, checkpointed, Adam", checkpointed_gpt_adam),
}
