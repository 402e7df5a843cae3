"""The gradients of a step, checked before anything is changed by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


class Gradient(NamedTuple):
    """A parameter's gradient, with the group and number that it has."""

    p: Tensor
    group: Mapping[str, Any]
    number: int
    value: Tensor

    def __str__(self) -> str:
        return f"optimizer: parameter {self.number} {tuple(self.p.shape)}"


def collected(groups: Sequence[Mapping[str, Any]]) -> tuple[list[Gradient], list[Gradient]]:
    """Return the gradients that there are, and those of them that are to be skipped.

    A gradient that isn't finite, or whose sum of squares overflows, raises `FloatingPointError`
    or, where its group says `nonfinite: skip`, is skipped. A sparse or complex one raises
    `TypeError`. One wait for each device and precision, however many parameters.
    """
    numbered = enumerate((group, p) for group in groups for p in group["params"])
    found = [
        Gradient(p, group, number, p.grad) for number, (group, p) in numbered if p.grad is not None
    ]
    for gradient in found:
        if gradient.value.is_sparse or gradient.value.is_complex():
            kind = "sparse" if gradient.value.is_sparse else "complex"
            raise TypeError(f"{gradient}: its gradient is {kind}; only dense real ones are taken")
    sound = _finite([gradient.value for gradient in found])
    broken = [gradient for gradient, fine in zip(found, sound, strict=True) if not fine]
    for gradient in broken:
        if gradient.group["nonfinite"] == "raise":
            raise FloatingPointError(
                f"{gradient}: its gradient isn't finite or its square overflows; nothing was "
                "changed (with nonfinite='skip' the parameter would be passed over)"
            )
    return [gradient for gradient, fine in zip(found, sound, strict=True) if fine], broken


def _finite(gradients: Sequence[Tensor]) -> list[bool]:
    """Return of each gradient whether its sum of squares is finite, in float32 at the least."""
    alike: dict[Any, list[int]] = {}
    for index, gradient in enumerate(gradients):
        wide = torch.promote_types(gradient.dtype, torch.float32)
        alike.setdefault((wide, gradient.device), []).append(index)
    found = [True] * len(gradients)
    for (wide, _), indices in alike.items():
        norms = [torch.linalg.vector_norm(gradients[index], dtype=wide) for index in indices]
        fine = torch.stack(norms).square().isfinite()
        if isinstance(fine, FakeTensor):  # a prediction of memory: there are no values to check
            continue
        for index, each in zip(indices, fine.tolist(), strict=True):
            found[index] = each
    return found
