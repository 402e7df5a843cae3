"""Layer blocks: a linear layer and its non-linearity that keep a reading, not an activation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from sketchbench import Event, Skip
from sketchbench.autodiff import Plain, Scope, linear_layers, replaced
from sketchbench.measure import category
from sketchbench_tri_sketch.draws import wide
from sketchbench_tri_sketch.layer import Call, Passes, recomputed_layer, sketched_layer
from sketchbench_tri_sketch.nonlinearity import (
    Identity,
    Quantised,
    Relu,
    Smooth,
    is_nonlinearity,
    is_smooth,
)
from sketchbench_tri_sketch.reading import Reading


class Controller(Protocol):
    """What adapts readings (their rank, say) after each epoch."""

    def decide(self, loss: float, readings: Sequence[Reading]) -> Sequence[Event]:
        """Adapt `readings` to the epoch's mean training loss; return what changed and why."""


class Sketched(Plain):
    """A model with sketched layers, and perhaps a controller of their readings."""

    def __init__(self, model: nn.Module, controller: Controller | None = None) -> None:
        super().__init__(model)
        self._controller = controller
        if isinstance(controller, nn.Module):  # its state goes with the model's
            self._blocks()[0].controller = controller

    def end_epoch(self, loss: float) -> Sequence[Event]:  # type: ignore[override]
        """Let the controller decide, if there is one; return the events of what it changed."""
        if self._controller is None:
            return ()
        readings = [block.reading for block in self._blocks() if block.reading is not None]
        return self._controller.decide(loss, readings)

    def _blocks(self) -> list[SketchedBlock]:
        return [module for module in self.model.modules() if isinstance(module, SketchedBlock)]


class SketchedBlock(nn.Module):
    """A linear layer with another's weight and bias, the non-linearity after it, and a reading.

    The forward is the exact one, to the bit. In training with gradients the reading keeps what
    the weight's gradient is computed from; its state moves once a forward pass (so once for each
    micro-batch where gradients accumulate), but not in a recomputation, which is a forward pass
    within a backward pass. In evaluation, without gradients, and for a frozen weight no reading is
    kept and no state moves. Rows are all leading dimensions; sketches are computed in float32 at
    least, and gradients rounded to the weight's type.

    A reading with a state raises `RuntimeError` in a recomputation that can't have the state of
    the pass that it repeats: after several passes, or before any with gradients, as in reentrant
    checkpointing (use `use_reentrant=False`).

    Without a reading the input is kept, and the pre-activation computed again: exact.
    """

    def __init__(
        self,
        linear: nn.Linear,
        reading: Reading | None,
        nonlinearity: nn.Module | None = None,
        smooth: Smooth = "keep",
    ) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.in_features, self.out_features = linear.in_features, linear.out_features
        if reading is not None:
            with category("sketch"):
                reading.to(self.weight.device, wide(self.weight.dtype))
        self.reading = reading
        self.nonlinearity = nonlinearity
        self.controller: nn.Module | None = None  # of all blocks' readings, in the first of them
        self._inside, self._outside = _arranged(nonlinearity, smooth)
        self._passes = Passes()
        self.train(linear.training)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., d) to (..., m)."""
        parameters = [self.weight] if self.bias is None else [self.weight, self.bias]
        wanted = x.requires_grad or any(p.requires_grad for p in parameters)
        if not (self.training and torch.is_grad_enabled() and wanted):
            out = F.linear(x, self.weight, self.bias)
            return out if self.nonlinearity is None else self.nonlinearity(out)
        if self.reading is None:
            assert self.nonlinearity is not None
            return recomputed_layer(x, self.weight, self.bias, self.nonlinearity)
        reading = self.reading if self.weight.requires_grad else None
        call = Call(self._inside, self._outside, reading, self._passes)
        out = sketched_layer(x, self.weight, self.bias, call)
        return out if self._outside is None else self._outside(out)


def _arranged(nonlinearity: nn.Module | None, smooth: Smooth) -> tuple[Identity, nn.Module | None]:
    """Return what a layer's function does to its output, and what is done after it."""
    if isinstance(nonlinearity, nn.ReLU):
        return Relu(), None
    if nonlinearity is not None and smooth == "8bit":
        return Quantised(nonlinearity), None
    return Identity(), nonlinearity  # whose own backward keeps just what `keep` says


# ---------------------------------------------------------------- models with blocks


def sketched(
    recipe_name: str,
    model: nn.Module,
    scope: Scope,
    smooth: Smooth,
    reading: Callable[[nn.Linear, Generator], Reading],
    rng: Generator,
) -> nn.Module:
    """Return a structural copy of `model` whose linear layers in `scope` are sketched blocks.

    The non-linearity that follows a layer in an `nn.Sequential` goes into its block, and an
    identity takes its place: what an exact model's sequence returns on the way (by an index, or
    layer by layer) is there the pre-activation. A layer that occurs several times is one block,
    and takes in nothing. Raises `Skip` where no layer is in scope.

    Convolutions stay exact: their rows are N·H·W, and unfolding the input into rows to sketch
    them takes more memory than the input that it would save.
    """
    names = linear_layers(model, scope)
    if not names:
        raise Skip(f"{recipe_name}: the model has no linear layer in scope '{scope}'")
    followers = _followers(model)
    swaps: dict[str, nn.Module] = {}
    for name in names:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        after = followers.get(linear)
        copied = None if after is None else replaced(after, {})
        recomputes = smooth == "recompute" and is_smooth(after)
        kept = None if recomputes else reading(linear, rng)
        swaps[name] = SketchedBlock(linear, kept, copied, smooth)
    copy = replaced(model, swaps)
    for module in list(copy.modules()):
        if _is_sequence(module):
            _take_in(module)
    return copy


def _followers(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """Return the non-linearity that follows each linear layer that occurs once."""
    occurrences = [module for _, module in model.named_modules(remove_duplicate=False)]
    return {
        child: follower
        for module in model.modules()
        if _is_sequence(module)
        for child, follower in _neighbours(module)
        if is_nonlinearity(follower) and occurrences.count(child) == 1
    }


def _take_in(sequence: nn.Module) -> None:
    """Put an identity in the place of each non-linearity that the block before it has."""
    names = list(sequence._modules)
    for name, following in pairwise(names):
        block = sequence._modules[name]
        if isinstance(block, SketchedBlock) and block.nonlinearity is not None:
            sequence._modules[following] = nn.Identity()


def _neighbours(sequence: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    children = [child for child in sequence._modules.values() if child is not None]
    return list(pairwise(children))


def _is_sequence(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
