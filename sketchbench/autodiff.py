"""Autograd's corner: exact steps, seeded stretches, flat vectors, models with swapped layers."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import BeforeValidator
from torch import Generator, Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

Module = TypeVar("Module", bound=nn.Module)


@contextmanager
def seeded(rng: Generator) -> Iterator[None]:
    """Seed torch's global CPU generator from `rng` inside the block; restore it afterwards."""
    with _disable_current_modes():  # a mode may count this draw, or give it no value (fake tensors)
        seed = int(torch.randint(2**63 - 1, (), generator=rng))
    state = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(state)


class Plain:
    """The exact sketched model: one forward and one backward a batch, nothing saved or lost."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def accumulate(
        self, inputs: Tensor, targets: Tensor, loss: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Add the batch's gradients to `.grad`; return its mean loss, detached."""
        mean = loss(self.model(inputs), targets)
        mean.backward()
        return mean.detach()

    def end_epoch(self, loss: float) -> tuple[()]:
        """Adapt to nothing."""
        return ()


# ---------------------------------------------------------------- flat vectors


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """Join parameters or gradients, in their order, into one vector (N,); differentiable."""
    parts = [tensor.reshape(-1) for tensor in tensors]
    if not parts:
        raise ValueError("flatten: there are no tensors to join")
    return torch.cat(parts)


def unflatten(vector: Tensor, like: Iterable[Tensor]) -> list[Tensor]:
    """Cut a vector (N,) into views of the shapes of `like`; undoes `flatten`."""
    shapes = [tensor.shape for tensor in like]
    sizes = [shape.numel() for shape in shapes]
    if vector.shape != (sum(sizes),):
        raise ValueError(
            f"unflatten: a vector of shape {tuple(vector.shape)} does not fill "
            f"{len(sizes)} tensors of {sum(sizes)} entries"
        )
    parts = torch.split(vector, sizes)
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


# ---------------------------------------------------------------- models with swapped layers


def replaced(model: nn.Module, swaps: Mapping[str, nn.Module]) -> nn.Module:
    """Return a structural copy of `model` with the submodules named in `swaps` replaced.

    Parameters and buffers are the original's, by identity; modules, their hooks and their
    training flags are not, so train(), eval() and hooks on the copy leave the original alone.
    A module that occurs several times is replaced wherever it occurs. Only registered modules
    are copied (a plain list of modules still holds the originals), and a buffer stays shared as
    long as it is updated in place: move the model to its device first. Raises `ValueError` for
    a name that no submodule has.
    """
    modules = dict(model.named_modules(remove_duplicate=False))
    for name in swaps:
        if name not in modules:
            raise ValueError(
                f"replaced: the model has no submodule '{name}'; {_near(name, modules)}"
            )
    copies = {id(modules[name]): swap for name, swap in swaps.items()}
    return _copied(model, copies)


def blocks(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return names and modules of the natural blocks for checkpointing, in their order.

    These are the children of the outermost `nn.Sequential` that own parameters; a model whose
    body is several such sequences side by side (stages, say) has the blocks of all of them.
    Raises `ValueError` for a model without any.
    """
    found = [
        (f"{prefix}.{name}" if prefix else name, child)
        for prefix, sequence in _outermost(model, "")
        for name, child in sequence.named_children()
        if next(child.parameters(), None) is not None
    ]
    if not found:
        raise ValueError(
            f"blocks: {type(model).__name__} has no nn.Sequential whose children own parameters; "
            "put its layers or stages into one"
        )
    return found


def _known(scope: Any) -> Any:
    if isinstance(scope, str) and scope not in ("hidden", "all"):
        raise ValueError(f"expected all, hidden or a list of layers; got {scope}")
    return scope


Scope = Annotated[Literal["hidden", "all"] | tuple[str, ...], BeforeValidator(_known)]
"""The type of a recipe's field `scope`: which linear layers an activation sketch touches."""


def linear_layers(model: nn.Module, scope: Scope) -> tuple[str, ...]:
    """Return the names of the layers that an activation sketch touches, in the model's order.

    Only plain `nn.Linear` layers are sketched; convolutions, and subclasses with a forward of
    their own, stay exact. `all` takes every one, `hidden` every one but the first, a tuple those
    that it names (`ValueError` for an unknown name). Empty where the model has none: a sketch
    that would touch nothing should raise `Skip`. A layer that occurs twice is named once.
    """
    names = [name for name, module in model.named_modules() if type(module) is nn.Linear]
    if scope == "all":
        return tuple(names)
    if scope == "hidden":
        return tuple(names[1:])
    for name in scope:
        if name not in names:
            raise ValueError(f"scope: the model has no linear layer '{name}'; {_near(name, names)}")
    return tuple(name for name in names if name in scope)


def _copied(module: Module, copies: dict[int, nn.Module]) -> Module:
    """Copy `module` and, through `copies`, each module below it once."""
    if id(module) in copies:
        return copies[id(module)]  # type: ignore[return-value]
    clone = type(module).__new__(type(module))
    copies[id(module)] = clone
    clone.__dict__.update(module.__dict__)
    for name, own in nn.Module().__dict__.items():  # registries; everything else is shared
        if isinstance(own, (dict, set)):
            clone.__dict__[name] = module.__dict__[name].copy()
    for name, child in module._modules.items():
        if child is not None:
            clone._modules[name] = _copied(child, copies)
    return clone


def _outermost(model: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Sequential]]:
    """Yield the sequences that lie in no other one."""
    if isinstance(model, nn.Sequential):
        yield prefix, model
        return
    for name, child in model.named_children():
        yield from _outermost(child, f"{prefix}.{name}" if prefix else name)


def _near(word: str, known: Iterable[str]) -> str:
    words = [name for name in known if name]
    near = difflib.get_close_matches(word, words, n=1)
    return (
        f"did you mean '{near[0]}'? " if near else ""
    ) + f"(known: {', '.join(words) or 'none'})"
