"""Precisions: the formats in which a model computes, and in which it keeps its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from sketchbench import Skip

Precision = Literal["fp32", "bf16", "amp-bf16"]
Loss = Callable[[Tensor, Tensor], Tensor]


class FP32:
    """Everything in the format that it comes in."""

    def place(self, model: nn.Module, device: torch.device) -> None:
        """Move a new model to `device`, in the format of its parameters."""
        _moved(model, device)

    def attach(self, model: nn.Module, device: torch.device) -> None:
        """Make the forward of the sketched model compute in this precision."""

    def inputs(self, inputs: Tensor) -> Tensor:
        """Return a batch in the format that the model takes: fp64 data in torch's default one."""
        wide = inputs.dtype == torch.float64
        return inputs.to(torch.get_default_dtype()) if wide else inputs

    def outputs(self, outputs: Tensor) -> Tensor:
        """Return a model's outputs in the format that the loss takes."""
        return outputs

    def loss(self, loss: Loss) -> Loss:
        """Return the loss of a model's outputs as they are."""
        return loss


class BF16(FP32):
    """Parameters, gradients, inputs and arithmetic in bfloat16; the loss in fp32."""

    def place(self, model: nn.Module, device: torch.device) -> None:
        """Move a new model to `device` and round its parameters and buffers to bfloat16."""
        _moved(model, device, torch.bfloat16)

    def inputs(self, inputs: Tensor) -> Tensor:
        """Return floating-point inputs in bfloat16, others (tokens) as they are."""
        return inputs.bfloat16() if inputs.is_floating_point() else inputs

    def outputs(self, outputs: Tensor) -> Tensor:
        """Return the outputs in fp32."""
        return outputs.float()

    def loss(self, loss: Loss) -> Loss:
        """Return the loss of the outputs in fp32."""
        return lambda outputs, targets: loss(self.outputs(outputs), targets)


class AmpBF16(FP32):
    """Parameters and gradients in fp32, the forward under autocast to bfloat16, the loss in fp32.

    Autocast is entered and left by hooks of the one module that the sketch runs: names and layers
    stay, and structural copies (`sketchbench.autodiff.replaced`) compute in fp32. The backward
    pass is outside; recomputation in it restores autocast by itself. [Micikevicius et al. 2018]
    """

    def __init__(self) -> None:
        self._entered = False

    def attach(self, model: nn.Module, device: torch.device) -> None:
        """Enter autocast before each forward of `model`, and leave it thereafter, come what may."""
        contexts = ExitStack()

        def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if module is model:
                self._entered = True
                contexts.enter_context(torch.autocast(device.type, torch.bfloat16))

        def leave(module: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> None:
            if module is model:
                contexts.close()

        model.register_forward_pre_hook(enter)
        model.register_forward_hook(leave, always_call=True)

    def outputs(self, outputs: Tensor) -> Tensor:
        """Return the outputs in fp32."""
        return outputs.float()

    def loss(self, loss: Loss) -> Loss:
        """Return the loss in fp32; it raises `Skip` where the model itself wasn't called."""

        def in_full(outputs: Tensor, targets: Tensor) -> Tensor:
            if not self._entered:
                raise Skip(
                    "amp-bf16: the activation sketch runs its layers without calling its model, "
                    "so that autocast is never entered; use fp32 or bf16"
                )
            return loss(self.outputs(outputs), targets)

        return in_full


PRECISIONS: Mapping[Precision, type[FP32]] = {"fp32": FP32, "bf16": BF16, "amp-bf16": AmpBF16}


def _moved(model: nn.Module, device: torch.device, dtype: torch.dtype | None = None) -> None:
    """Move `model` in place, its floating-point tensors to `dtype` where one is given."""
    tensors = [*model.parameters(), *model.buffers()]
    if not any(isinstance(tensor, FakeTensor) for tensor in tensors):
        model.to(device=device, dtype=dtype)
        return
    for tensor in tensors:  # `model.to` swaps fake tensors, which fails once they are referred to
        floating = tensor.is_floating_point()
        tensor.data = tensor.detach().to(device=device, dtype=dtype if floating else None)
