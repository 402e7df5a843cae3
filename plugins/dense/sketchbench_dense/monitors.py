"""Monitors that need no sketch: exact norms of gradients, and the gradients themselves."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Generator, Tensor, nn

from sketchbench import Field, Monitor, Skip, Watcher
from sketchbench.autodiff import linear_layers
from sketchbench.measure import category

EVERY = "Steps from one that is observed to the next."


class GradNormExact(Monitor):
    """Reads each weight gradient's Frobenius norm after the backward pass, and keeps it.

    Estimate `exact_norm`. It holds 4 bytes a layer and step of its history, and no hooks: the
    baseline of every monitor that estimates norms.
    """

    name = "grad-norm-exact"
    every: int = Field(1, ge=1, description=EVERY)
    window: int | None = Field(
        None, ge=1, description="Observed steps whose norms are kept; null keeps all."
    )

    @property
    def period(self) -> int:
        """Steps from one that is observed to the next."""
        return self.every

    def build(self, model: nn.Module, batch_size: int, rng: Generator) -> Watcher:
        """Watch every linear layer; raise `Skip` where there is none."""
        return _Norms(_weights(self, model), self.window)


class GradSnapshots(Monitor):
    """Keeps copies of the weight gradients of the last `window` observed steps.

    Estimate `snapshot_norm`, the newest copy's Frobenius norm. It is what the tri-sketch paper
    compares its memory with [arXiv 2510.00442, §5.3]; nobody need keep gradients for their norms.
    """

    name = "grad-snapshots"
    every: int = Field(1, ge=1, description=EVERY)
    window: int = Field(5, ge=1, description="Observed steps whose gradients are kept.")

    @property
    def period(self) -> int:
        """Steps from one that is observed to the next."""
        return self.every

    @property
    def changing(self) -> bool:
        """Whether memory changes over time: it fills up over `window` observed steps."""
        return self.window > 1

    def build(self, model: nn.Module, batch_size: int, rng: Generator) -> Watcher:
        """Watch every linear layer; raise `Skip` where there is none."""
        return _Snapshots(_weights(self, model), self.window)


class _Reader:
    """Reads the gradients of weights by layer, when it is asked and not resting."""

    def __init__(self, weights: Mapping[str, nn.Parameter]) -> None:
        self.layers = tuple(weights)
        self._weights = list(weights.values())
        self._on = True

    def observe(self, on: bool) -> None:
        """Read gradients, or rest."""
        self._on = on

    def close(self) -> None:
        """Leave the model alone, as before."""
        self._on = False

    def _nothing(self) -> Tensor:
        weight = self._weights[0]
        kind = torch.promote_types(weight.dtype, torch.float32)
        return torch.full((len(self.layers),), torch.nan, dtype=kind, device=weight.device)

    def _norms(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Return ‖g‖_F (layers,), in float32 at least; NaN where there is no gradient."""
        found = self._nothing()
        places = [i for i, g in enumerate(gradients) if g is not None]
        if places:
            present = [g.to(found.dtype) for g in gradients if g is not None]
            norms = torch.stack(torch._foreach_norm(present))
            found = (
                norms
                if len(places) == len(found)
                else found.index_copy(0, torch.tensor(places, device=found.device), norms)
            )
        return found


class _Norms(_Reader):
    def __init__(self, weights: Mapping[str, nn.Parameter], window: int | None) -> None:
        super().__init__(weights)
        self._history: deque[Tensor] = deque(maxlen=window)

    @torch.no_grad()
    def estimates(self) -> Mapping[str, Tensor]:
        """Return `exact_norm` (layers,) of the gradients as they are."""
        if not self._on:
            return {"exact_norm": self._nothing()}
        with category("sketch"):
            norms = self._norms([weight.grad for weight in self._weights])
        self._history.append(norms)
        return {"exact_norm": norms}

    def held(self) -> int:
        """Return the bytes of the history."""
        return _bytes(self._history)


class _Snapshots(_Reader):
    def __init__(self, weights: Mapping[str, nn.Parameter], window: int) -> None:
        super().__init__(weights)
        self._kept: deque[list[Tensor | None]] = deque(maxlen=window)

    @torch.no_grad()
    def estimates(self) -> Mapping[str, Tensor]:
        """Keep the gradients; return `snapshot_norm` (layers,)."""
        if not self._on:
            return {"snapshot_norm": self._nothing()}
        if len(self._kept) == self._kept.maxlen:
            self._kept.popleft()  # before the copy: at most `window` are alive
        with category("sketch"):
            copies = [None if w.grad is None else w.grad.clone() for w in self._weights]
            self._kept.append(copies)
            return {"snapshot_norm": self._norms(copies)}

    def held(self) -> int:
        """Return the bytes of all copies."""
        return _bytes(copy for copies in self._kept for copy in copies if copy is not None)


def _weights(recipe: Monitor, model: nn.Module) -> dict[str, nn.Parameter]:
    names = linear_layers(model, "all")
    if not names:
        raise Skip(f"{recipe.name}: the model has no linear layer")
    return {name: model.get_submodule(name).weight for name in names}


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)
