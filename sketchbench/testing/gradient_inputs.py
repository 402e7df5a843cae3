"""Laws of what goes into a gradient sketch: any size, number type and layout, and any values."""

from __future__ import annotations

import itertools
import re

import pytest
import torch

from sketchbench import GradientSketch
from sketchbench.testing.gradient_subject import built, close, draws_at_random, normal

SIZE = 100
SIZES = (1, 3, 13, 100)  # N
OUT_SIZES = (1, 3, 32, 48, 100, 256)  # D: powers of two and others, below and above N
CONSTRAINTS = (
    r"power|multipl|divi|factor|product|at least|at most|larger|smaller|below|above|[<>≤≥]"
)
TYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def keeps_the_number_type(subject: GradientSketch) -> None:
    """Sx and Sᵀy have the type of what goes in, and no less than its precision.

    What is narrower than float32 is computed in float32 and rounded once, to half an ulp; float64
    stays float64.
    """
    s = built(subject, SIZE)
    for name, map_, wide in (
        ("Sx", s.apply, normal(SIZE, seed=1)),
        ("Sᵀy", s.adjoint, normal(s.shape[0], seed=2)),
    ):
        for dtype in TYPES:
            x = wide.to(dtype)
            image = map_(x)
            assert image.dtype == dtype, f"expected {name} of {dtype} in it; got {image.dtype}"
            exact = map_(x.double())
            limits = torch.finfo(dtype)
            allowed = limits.eps / 2 * exact.abs() + 2e-6 * exact.abs().max() + limits.tiny
            error = (image.double() - exact).abs()
            assert (error <= allowed).all(), (
                f"expected {name} of {dtype} to be rounded once, from float32; off by "
                f"{float((error - allowed).max()):.3g} more than that"
            )


def refuses_another_length(subject: GradientSketch) -> None:
    """A vector that isn't of N entries, or of D, is an error: not broadcast, cut or filled up."""
    s = built(subject, SIZE)
    for name, map_, size in (("Sx", s.apply, SIZE), ("Sᵀy", s.adjoint, s.shape[0])):
        for other in {1, size - 1, size + 1, 2 * size} - {0, size}:
            try:
                map_(torch.ones(other))
            except (IndexError, RuntimeError, ValueError):
                continue
            raise AssertionError(
                f"expected {name} of a vector of {other} entries to raise, as it takes {size}: "
                "torch broadcasts some lengths, and slices take less than they ask for"
            )


def takes_any_layout(subject: GradientSketch) -> None:
    """Vectors with strides, expanded and transposed ones are mapped as their copies are."""
    s = built(subject, SIZE)
    for name, map_, size in (("Sx", s.apply, SIZE), ("Sᵀy", s.adjoint, s.shape[0])):
        wide = normal(3, 2 * size, seed=1)
        for what, x in (
            ("every second entry", wide[:, ::2]),
            ("a transposed matrix", normal(size, 3, seed=2).mT),
            ("one vector, expanded", wide[0, :size].expand(3, size)),
            ("a batch of none", wide[:0, :size]),
        ):
            image, expected = map_(x), map_(x.contiguous().clone())
            assert image.shape == expected.shape, f"expected {name} of {what} to keep its shape"
            if x.numel():
                close(image, expected, f"{name} of {what} to be that of its copy")


def leaves_its_input_alone(subject: GradientSketch) -> None:
    """What goes in is neither written to nor handed back, and keeps its own gradient."""
    s = built(subject, SIZE)
    for name, map_, size in (("Sx", s.apply, SIZE), ("Sᵀy", s.adjoint, s.shape[0])):
        x = normal(2, size, seed=1)
        kept = x.clone()
        map_(x).zero_()
        assert torch.equal(x, kept), f"expected {name} to leave its input, and share no memory"
        expected = map_(kept)
        close(map_(x), expected, f"{name} to be the same after its result was overwritten")
        x.requires_grad_()
        image = map_(x)
        assert x.requires_grad and x.grad is None, f"expected {name} to leave requires_grad"  # noqa: PT018  # one sentence of the law
        close(image.detach(), expected, f"{name} to be the same for an x that requires a gradient")


def is_differentiated_as_its_adjoint(subject: GradientSketch) -> None:
    """Where autograd follows S, the gradient of ⟨Sx, y⟩ is Sᵀy; it is never silently another.

    So that a gradient through ω ↦ θ + Sᵀω (implicit) is S of the gradient (explicit).
    """
    s = built(subject, SIZE)
    x, y = normal(SIZE, seed=1), normal(s.shape[0], seed=2)
    followed = False
    for name, map_, back, point, weight in (
        ("S", s.apply, s.adjoint, x, y),
        ("Sᵀ", s.adjoint, s.apply, y, x),
    ):
        leaf = point.clone().requires_grad_()
        image = map_(leaf)
        if not image.requires_grad:
            continue
        followed = True
        map_(2 * point)  # what is reused between products may not be what backward needs
        (gradient,) = torch.autograd.grad(image @ weight, leaf)
        close(gradient, back(weight), f"autograd to differentiate {name} as what it is")
    if not followed:
        pytest.skip(f"autograd doesn't follow what {subject.name} builds")


def passes_on_what_is_not_finite(subject: GradientSketch) -> None:
    """A NaN or an ∞ that S looks at shows in Sx, and one that Sᵀ looks at in Sᵀy."""
    s = built(subject, SIZE)
    for name, map_, other, size in (
        ("Sx", s.apply, s.adjoint, SIZE),
        ("Sᵀy", s.adjoint, s.apply, s.shape[0]),
    ):
        seen = int(other(normal(s.shape[0] + SIZE - size, seed=3)).abs().argmax())
        for value in (torch.nan, torch.inf, -torch.inf):
            x = normal(size, seed=1)
            x[seen] = value
            assert not map_(x).isfinite().all(), f"expected {name} of an x with {value} to show it"
        again = map_(normal(size, seed=1))
        assert again.isfinite().all(), f"expected {name} to be finite again after such an x"


def maps_zero_alone_to_zero(subject: GradientSketch) -> None:
    """S0 = 0, and dense vectors, of any scale, never go to 0 as a whole."""
    for size in SIZES:
        s = built(subject, size)
        image = s.apply(torch.zeros(2, size))
        assert torch.equal(image, torch.zeros_like(image)), f"expected S0 = 0 at N={size}"
        x = normal(size, seed=1)
        for scale in (2.0**-70, 1.0, 2.0**70):
            for dtype in TYPES if scale == 1 else (torch.float32,):
                image = s.apply((scale * x).to(dtype))
                assert image.any(), f"expected Sx ≠ 0 for {scale:g}·x in {dtype} at N={size}"
            close(s.apply(scale * x) / scale, s.apply(x), f"S({scale:g}·x) = {scale:g}·Sx")


def drops_no_coordinate(subject: GradientSketch) -> None:
    """Every coordinate counts, the first and the last too, at sizes that need padding.

    In one draw of many: a sketch that samples D of N coordinates with replacement misses one in
    40·N/D draws with a probability of N·e⁻⁴⁰.
    """
    draws_at_random(subject, SIZES[-1])
    for size in SIZES[1:]:
        seen = torch.zeros(size, dtype=torch.bool)
        for seed in range(8 + 40 * size // built(subject, size).shape[0]):
            s = built(subject, size, seed)
            seen |= s.adjoint(normal(s.shape[0], seed=4)) != 0
            if seen.all():
                break
        missed = (~seen).nonzero().flatten().tolist()
        assert not missed, f"expected S to look at all {size} coordinates; it misses {missed}"


def takes_any_out_size_or_says_why_not(subject: GradientSketch) -> None:
    """Every D makes a sketch (D, N) with an adjoint, or raises a `ValueError` that says why not.

    As the recipe is made, or with an N as it is built.
    """
    if "out_size" not in type(subject).model_fields:
        pytest.skip(f"{subject.name} has no field out_size")
    for out_size, size in itertools.product(OUT_SIZES, SIZES):
        try:
            s = built(_with_out_size(subject, out_size), size)
        except ValueError as error:
            why = " ".join(str(error).split())
            assert re.search(CONSTRAINTS, why), (
                f"expected a ValueError that names the constraint on D, such as 'out_size: 48 is "
                f"no power of two'; got '{why}' for D={out_size}, N={size}"
            )
            continue
        assert tuple(s.shape) in {(out_size, size), (min(out_size, size), size)}, (
            f"expected the shape ({out_size}, {size}), or N for a D above it; got {tuple(s.shape)}"
        )
        x, y = normal(size, seed=1), normal(s.shape[0], seed=2)
        left, right = float(s.apply(x) @ y), float(x @ s.adjoint(y))
        assert abs(left - right) <= 1e-5 * float(s.apply(x).norm() * y.norm() + 1), (
            f"expected ⟨Sx, y⟩ = ⟨x, Sᵀy⟩ at D={out_size}, N={size}; got {left:.6g} and {right:.6g}"
        )


LAWS = (
    keeps_the_number_type,
    refuses_another_length,
    takes_any_layout,
    leaves_its_input_alone,
    is_differentiated_as_its_adjoint,
    passes_on_what_is_not_finite,
    maps_zero_alone_to_zero,
    drops_no_coordinate,
    takes_any_out_size_or_says_why_not,
)


def _with_out_size(subject: GradientSketch, out_size: int) -> GradientSketch:
    """Return the subject, validated anew, with another D."""
    fields = {name: getattr(subject, name) for name in type(subject).model_fields}
    return type(subject)(**{**fields, "out_size": out_size})
