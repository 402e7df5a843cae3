"""Inputs: a sketch that takes a size, a type or a layout for another is caught."""

import pytest
import torch
from pydantic import field_validator

from sketchbench import Field, GradientSketch
from sketchbench.testing import gradient_inputs as inputs


class Signs(GradientSketch):
    """Fair signs, held; `fault` breaks something for some input."""

    name = "input-signs"
    out_size: int = Field(16, ge=1, description="D.")
    fault: str = Field("", description="What is wrong.")

    @field_validator("out_size")
    @classmethod
    def _is_even_or_one(cls, value):
        if value == 3:
            raise ValueError(f"{value} is no power of two")
        return value

    def build(self, size, rng, device):
        if self.fault == "unexplained" and size == 13:
            raise ValueError("can't")
        out = self.out_size
        if self.fault == "rounds D up":
            out = 1 << (out - 1).bit_length()
        matrix = (torch.randint(2, (out, size), generator=rng) * 2.0 - 1) / out**0.5
        if self.fault == "floor":
            matrix[:, 8 * max(1, size // 8) :] = 0
        return Held(matrix, self.fault)


class Held:
    def __init__(self, matrix, fault):
        self.matrix = matrix
        self.shape = tuple(matrix.shape)
        self.fault = fault
        self.poisoned = False

    def apply(self, x):
        if self.fault == "broadcasts" and x.shape[-1] == 1:
            x = x.expand(self.shape[1])
        if self.fault == "cuts":
            x = x[..., : self.shape[1]]
        return self._times(x, self.matrix.mT)

    def adjoint(self, y):
        if self.fault == "adjoint of another" and self.shape[0] == 48:
            return 1.5 * self._times(y, self.matrix)
        return self._times(y, self.matrix)

    def _times(self, x, matrix):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.fault == "float32 always":
            return x.float() @ matrix
        if self.fault == "bfloat16 sums" and x.dtype == torch.bfloat16:
            halves = x.float().split(50, -1), matrix.split(50)
            return sum((part @ rows).bfloat16() for part, rows in zip(*halves, strict=True))
        if self.fault == "float32 inside":
            return (x.float() @ matrix).to(x.dtype)
        if self.fault == "contiguous memory" and x.numel():
            wide = torch.as_strided(wide, x.shape, torch.empty(x.shape).stride())
        if self.fault == "writes" and not x.requires_grad:
            x.mul_(2)
        if self.fault == "hands back":
            return x[..., : matrix.shape[1]] if matrix.shape[1] <= x.shape[-1] else x @ matrix
        if self.fault == "takes over" and x.requires_grad:
            x.requires_grad_(False)
        if self.fault == "wrong gradient":
            return (wide + (wide - wide.detach())) @ matrix.to(wide.dtype)
        if self.fault == "detached":
            wide = wide.detach()
        if self.fault == "swallows":
            wide = wide.nan_to_num(0, 0, 0)
        if self.fault == "stays poisoned":
            self.poisoned |= not wide.isfinite().all()
            wide = wide + (torch.nan if self.poisoned else 0)
        if self.fault == "zeros in half" and x.dtype == torch.float16:
            return x.new_zeros(*x.shape[:-1], matrix.shape[1])
        if self.fault == "underflows":
            wide = wide.square().sqrt() * wide.sign()
        if self.fault == "shifted":
            wide = wide + 1e-9
        return (wide @ matrix.to(wide.dtype)).to(x.dtype)


@pytest.mark.parametrize("law", inputs.LAWS, ids=lambda law: law.__name__)
def test_a_good_sketch_passes(law):
    law(Signs())


@pytest.mark.parametrize(
    ("fault", "law", "said"),
    [
        (
            "float32 always",
            inputs.keeps_the_number_type,
            "of torch.float64 in it; got torch.float3",
        ),
        ("bfloat16 sums", inputs.keeps_the_number_type, "of torch.bfloat16 to be rounded once"),
        ("broadcasts", inputs.refuses_another_length, "Sx of a vector of 1 entries to raise"),
        ("cuts", inputs.refuses_another_length, "Sx of a vector of (101|200) entries to raise"),
        ("contiguous memory", inputs.takes_any_layout, "of every second entry"),
        ("writes", inputs.leaves_its_input_alone, "to leave its input, and share no memory"),
        ("hands back", inputs.leaves_its_input_alone, "to leave its input, and share no memory"),
        ("takes over", inputs.leaves_its_input_alone, "to leave requires_grad"),
        ("wrong gradient", inputs.is_differentiated_as_its_adjoint, "to differentiate S as"),
        ("swallows", inputs.passes_on_what_is_not_finite, "Sx of an x with nan to show it"),
        ("stays poisoned", inputs.passes_on_what_is_not_finite, "to be finite again"),
        ("zeros in half", inputs.maps_zero_alone_to_zero, "in torch.float16 at N=1"),
        ("underflows", inputs.maps_zero_alone_to_zero, "expected S.8.47033e-22.x. ="),
        ("shifted", inputs.maps_zero_alone_to_zero, "expected S0 = 0"),
        ("floor", inputs.drops_no_coordinate, r"all 13 coordinates; it misses \[8, 9"),
        (
            "unexplained",
            inputs.takes_any_out_size_or_says_why_not,
            "names the constraint .*'can't'",
        ),
        ("rounds D up", inputs.takes_any_out_size_or_says_why_not, r"the shape \(48, 1\)"),
        ("adjoint of another", inputs.takes_any_out_size_or_says_why_not, "at D=48, N=1"),
    ],
)
def test_a_fault_is_caught(fault, law, said):
    with pytest.raises(AssertionError, match=said):
        law(Signs(fault=fault))


def test_a_sketch_that_autograd_does_not_follow_is_not_differentiated():
    with pytest.raises(pytest.skip.Exception, match="autograd doesn't follow"):
        inputs.is_differentiated_as_its_adjoint(Signs(fault="detached"))


def test_float64_in_float32_is_no_float64():
    """Caught by the algebra, to 10⁻¹²: the image is compared with itself in `inputs`."""
    from sketchbench.testing.gradient import has_an_adjoint

    with pytest.raises(AssertionError, match="expected ⟨Sx, y⟩ = ⟨x, Sᵀy⟩ at N=.*float64"):
        has_an_adjoint(Signs(fault="float32 inside"))
