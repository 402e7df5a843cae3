"""A model as a deterministic function of one flat vector: its parameters, or some of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from sketchbench.autodiff import flatten, unflatten

KNOWN = 8  # names that an error tells


def sizes(model: nn.Module, layers: str = "*") -> dict[str, int]:
    """Return names and sizes of the parameters, in the order of flat vectors: for `build_named`.

    Those that are trained, whose own name or whose module's matches the glob `layers`; one that
    is shared counts once. Raises `ValueError` where none does.
    """
    return {name: value.numel() for name, value in _chosen(model, layers).items()}


class Function:
    """`model` as a function of a vector (N,) of the parameters in `layers`, and of a batch.

    Parameters, buffers and floating-point inputs are taken in `dtype`, by default as they are;
    the model itself stays as it is. Raises `ValueError` for one that is random or that makes
    examples depend on one another: dropout, or a batch normalisation, in training mode.
    """

    def __init__(
        self, model: nn.Module, layers: str = "*", dtype: torch.dtype | None = None
    ) -> None:
        _refuse_random(model)
        chosen = _chosen(model, layers)
        self._model = model
        self._dtype = dtype
        self._like = {name: self._cast(value) for name, value in chosen.items()}
        state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self._rest = {  # of its own: what an optimizer does to the model later changes nothing
            name: self._cast(value).clone() for name, value in state.items() if name not in chosen
        }
        self.vector = flatten(self._like.values())

    @property
    def sizes(self) -> Mapping[str, int]:
        """Names and sizes of the parameters, in their order in the vector."""
        return {name: value.numel() for name, value in self._like.items()}

    def __call__(self, vector: Tensor, inputs: Tensor) -> Tensor:
        """Return the outputs of a batch of inputs (n, ...), with `vector` (N,) as parameters."""
        parts = unflatten(vector, self._like.values())
        state = {**self._rest, **dict(zip(self._like, parts, strict=True))}
        return functional_call(self._model, state, (inputs,))  # type: ignore[no-any-return]

    def batch(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return a batch with what is floating-point in the precision of the parameters."""
        return self._cast(inputs), self._cast(targets)

    def _cast(self, tensor: Tensor) -> Tensor:
        tensor = tensor.detach()
        return tensor.to(self._dtype) if tensor.is_floating_point() and self._dtype else tensor


@contextmanager
def differentiable() -> Iterator[None]:
    """Use the attention that has second and forward derivatives: the fused kernels have none."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


def _chosen(model: nn.Module, layers: str) -> dict[str, Tensor]:
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    found: dict[str, Tensor] = {
        name: value
        for name, value in trained.items()
        if fnmatchcase(name, layers) or fnmatchcase(name.rpartition(".")[0], layers)
    }
    if not found:
        known = ", ".join(list(trained)[:KNOWN]) or "none"
        more = f" and {len(trained) - KNOWN} more" if len(trained) > KNOWN else ""
        raise ValueError(
            f"curvature: no trained parameter matches layers '{layers}'; known: {known}{more}"
        )
    return found


def _refuse_random(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and (module.training or not module.track_running_stats):
            what = "normalises by the batch's own statistics"
            if not module.track_running_stats:
                what += " even in evaluation (track_running_stats is off)"
        elif isinstance(module, _DropoutNd) and module.training and module.p > 0:
            what = f"drops entries with probability {module.p:g}"
        else:
            continue
        raise ValueError(
            f"curvature: '{name}' ({type(module).__name__}) {what}, so that a loss of one example "
            "isn't defined; call model.eval() first, or take it out"
        )
