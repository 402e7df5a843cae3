"""Laws of a gradient sketch: a linear map S: Rᴺ → Rᴰ with E‖Sx‖² = ‖x‖².

The algebra is here; what it draws, takes, keeps and promises are rooms of their own. How long a
product takes is no law: benchmarks tell.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from sketchbench import GradientSketch
from sketchbench.testing import gradient_inputs, gradient_memory, gradient_norms, gradient_seeds
from sketchbench.testing.gradient_subject import CPU, built, close, normal
from sketchbench.testing.period import repeats

SIZES = (1, 7, 64, 1000)  # nothing here is special; most are no powers of two
DRAWS = 200
WATCHED = 120  # products in which seldom work must show
NAMED = {"embedding.weight": 60, "layer.weight": 31, "layer.bias": 9}
CUTS = ((0, 100), (0, 1, 100), (0, 37, 37, 64, 99, 100))
TOLERANCES = ((torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 2e-2))


def has_the_shape(subject: GradientSketch) -> None:
    """S.shape is (D, N), and vectors of N go to vectors of D and back."""
    for size in SIZES:
        s = built(subject, size)
        out, n = s.shape
        assert n == size, f"expected shape (D, {size}); got {tuple(s.shape)}"
        there, back = s.apply(normal(size, seed=1)), s.adjoint(normal(out, seed=2))
        assert there.shape == (out,), f"expected Sx ({out},); got {tuple(there.shape)}"
        assert back.shape == (size,), f"expected Sᵀy ({size},); got {tuple(back.shape)}"


def is_linear(subject: GradientSketch) -> None:
    """S(3x − y) = 3Sx − Sy, in float64 to 10⁻¹², in float32 to 10⁻⁵, in bfloat16 to 2 %."""
    for size in SIZES:
        s = built(subject, size)
        for dtype, tolerance in TOLERANCES:
            x, y = normal(2, size, seed=1).bfloat16().to(dtype)
            expected = 3 * s.apply(x) - s.apply(y)
            law = f"S(3x − y) = 3Sx − Sy, N={size}, {dtype}"
            close(s.apply(3 * x - y), expected, law, tolerance)


def has_an_adjoint(subject: GradientSketch) -> None:
    """⟨Sx, y⟩ = ⟨x, Sᵀy⟩, in float64 to 10⁻¹² and in float32 to 10⁻⁵ of ‖Sx‖·‖y‖."""
    for size in SIZES:
        s = built(subject, size)
        for dtype, tolerance in TOLERANCES[:2]:
            x, y = normal(size, seed=1).to(dtype), normal(s.shape[0], seed=2).to(dtype)
            sx, back = s.apply(x).double(), s.adjoint(y).double()
            left, right = float(sx @ y.double()), float(x.double() @ back)
            # ~100 roundings; their scale is that of the terms, which may cancel
            bound = tolerance * max(1.0, float(sx.norm() * y.norm()), float(x.norm() * back.norm()))
            assert abs(left - right) <= bound, (
                f"expected ⟨Sx, y⟩ = ⟨x, Sᵀy⟩ at N={size}, {dtype}; got {left:.6g} and {right:.6g}"
            )


def maps_batches(subject: GradientSketch) -> None:
    """Leading dimensions are vectors of their own, for S and for Sᵀ."""
    s = built(subject, 100)
    x, y = normal(2, 3, 100, seed=1), normal(2, 3, s.shape[0], seed=2)
    for name, map_, batch in (("Sx", s.apply, x), ("Sᵀy", s.adjoint, y)):
        each = torch.stack([torch.stack([map_(v) for v in rows]) for rows in batch])
        close(map_(batch), each, f"{name} of a batch (2, 3, ·) = {name} of each vector")


def accumulates_in_any_pieces(subject: GradientSketch) -> None:
    """Pieces of a vector, cut anywhere and in any order, add up to Sx; what was there stays."""
    s: Any = built(subject, 100)
    if not hasattr(s, "accumulate"):
        pytest.skip(f"what {subject.name} builds has no accumulate(product, x, start)")
    x, before = normal(3, 100, seed=1), normal(3, s.shape[0], seed=2)
    for cuts in CUTS:
        for order in (1, -1):
            product = before.clone()
            for start, stop in list(pairwise(cuts))[::order]:
                s.accumulate(product, x[:, start:stop], start)
            law = f"accumulate, cut at {cuts}{' backwards' if order < 0 else ''}, to add Sx"
            close(product, before + s.apply(x), law)
    alone = torch.zeros(s.shape[0])
    s.accumulate(alone, x[0], 0)
    close(alone, s.apply(x[0]), "accumulate of one vector, without a batch, to be Sx")


def joins_named_parameters(subject: GradientSketch) -> None:
    """`build_named` makes one sketch of all parameters, joined in their order, from its seed.

    Where it isn't overridden it is what `build` makes of their total size.
    """
    total = sum(NAMED.values())
    x = normal(total, seed=1)
    first, second = (subject.build_named(NAMED, Generator().manual_seed(3), CPU) for _ in range(2))
    assert first.shape[1] == total, (
        f"expected a sketch of all {total} named parameters; got shape {tuple(first.shape)}"
    )
    assert torch.equal(first.apply(x), second.apply(x)), (
        "expected the same names and seed to build the same S"
    )
    if type(subject).build_named is GradientSketch.build_named:
        plain = built(subject, total, seed=3).apply(x)
        assert torch.equal(first.apply(x), plain), "expected names to change nothing"


def sketches_symmetric_operators(subject: GradientSketch) -> None:
    """v ↦ S·H·Sᵀv is symmetric where H is: a sketched Hessian is a Hessian's restriction."""
    s, root = built(subject, 100), normal(100, 100, seed=1)
    u, v = normal(2, s.shape[0], seed=2)
    hu, hv = (s.apply((root + root.mT) @ s.adjoint(w)) for w in (u, v))
    bound = 1e-5 * max(1.0, float(hu.norm() * v.norm()), float(hv.norm() * u.norm()))
    assert abs(float(u @ hv - v @ hu)) <= bound, (
        f"expected u·SHSᵀv = v·SHSᵀu; got {float(u @ hv):.6g} and {float(v @ hu):.6g}"
    )


def keeps_norms_on_average(subject: GradientSketch) -> None:
    """E‖Sx‖² = ‖x‖² over 200 draws: x dense, x = e₁, and the mean over all axes.

    A mean of n draws of deviation σ, none further than M from 1, may be off by 4σ/√n + 16M/(3n)
    (Bernstein's inequality: by more with a probability of 2e⁻⁸ at most). For e₁, σ and M are
    those of all axes: a sketch that samples D of N coordinates may never have drawn the first.
    """
    if subject.guarantee(500) is not None:
        pytest.skip("what guarantee(size) promises is tested, on every adversarial input")
    x = normal(500, seed=1)
    dense, axes = [], []
    for seed in range(DRAWS):
        s = built(subject, 500, seed)
        dense.append(s.apply(x).square().sum() / x.square().sum())
        axes.append(s.apply(torch.eye(500)).square().sum(-1))
    every = torch.stack(axes).double()  # (draws, axes)
    _averages_one("a dense x", torch.stack(dense).double())
    _averages_one("x = e₁", every[:, 0], like=every)
    _averages_one("all axes together", every.mean(1))


def repeats_with_its_period(subject: GradientSketch) -> None:
    """The operations of Sx and of Sᵀy repeat with `full_period()`, and with no shorter period."""
    s, x = built(subject, 100), normal(100, seed=1)
    repeats(subject, lambda: s.adjoint(s.apply(x)), WATCHED)


ALGEBRA = (
    has_the_shape,
    is_linear,
    has_an_adjoint,
    maps_batches,
    accumulates_in_any_pieces,
    joins_named_parameters,
    sketches_symmetric_operators,
    keeps_norms_on_average,
    repeats_with_its_period,
)
LAWS = (
    *ALGEBRA,
    *gradient_seeds.LAWS,
    *gradient_inputs.LAWS,
    *gradient_memory.LAWS,
    *gradient_norms.LAWS,
)


def _averages_one(name: str, ratios: Tensor, like: Tensor | None = None) -> None:
    """Hold a mean of ratios to 1, by Bernstein's inequality with the spread of `like`."""
    spread = ratios if like is None else like
    deviation = float((spread - 1).square().mean().sqrt())
    farthest = float((spread - 1).abs().max())
    mean, count = float(ratios.mean()), len(ratios)
    bound = 4 * deviation / count**0.5 + 16 * farthest / (3 * count) + 1e-5
    assert abs(mean - 1) <= bound, (
        f"expected the mean of ‖Sx‖²/‖x‖² to be 1 for {name}; got {mean:.4f}, allowed ± {bound:.4f}"
    )
