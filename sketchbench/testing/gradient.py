"""Laws of a gradient sketch: a linear map S: Rᴺ → Rᴰ with E‖Sx‖² = ‖x‖²."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from sketchbench import GradientSketch, LinearSketch
from sketchbench.testing.period import repeats

SIZES = (1, 7, 64, 1000)  # nothing here is special; most are no powers of two
DRAWS = 200
WATCHED = 120  # products in which seldom work must show


def has_the_shape(subject: GradientSketch) -> None:
    """S.shape is (D, N), and vectors of N go to vectors of D and back."""
    for size in SIZES:
        s = _built(subject, size)
        out, n = s.shape
        assert n == size, f"expected shape (D, {size}); got {tuple(s.shape)}"
        there, back = s.apply(_normal(size, seed=1)), s.adjoint(_normal(out, seed=2))
        assert there.shape == (out,), f"expected Sx ({out},); got {tuple(there.shape)}"
        assert back.shape == (size,), f"expected Sᵀy ({size},); got {tuple(back.shape)}"


def is_linear(subject: GradientSketch) -> None:
    """S(3x − y) = 3Sx − Sy."""
    for size in SIZES:
        s = _built(subject, size)
        x, y = _normal(2, size, seed=1)
        _close(s.apply(3 * x - y), 3 * s.apply(x) - s.apply(y), f"S(3x − y) = 3Sx − Sy, N={size}")


def has_an_adjoint(subject: GradientSketch) -> None:
    """⟨Sx, y⟩ = ⟨x, Sᵀy⟩."""
    for size in SIZES:
        s = _built(subject, size)
        x, y = _normal(size, seed=1), _normal(s.shape[0], seed=2)
        sx = s.apply(x)
        left, right = sx.double() @ y.double(), x.double() @ s.adjoint(y).double()
        bound = 1e-5 * max(1.0, float(sx.norm() * y.norm()))  # ~100 roundings of float32
        assert abs(left - right) <= bound, (
            f"expected ⟨Sx, y⟩ = ⟨x, Sᵀy⟩ at N={size}; got {left:.6g} and {right:.6g}"
        )


def maps_batches(subject: GradientSketch) -> None:
    """Leading dimensions are vectors of their own, for S and for Sᵀ."""
    s = _built(subject, 100)
    x, y = _normal(2, 3, 100, seed=1), _normal(2, 3, s.shape[0], seed=2)
    for name, map_, batch in (("Sx", s.apply, x), ("Sᵀy", s.adjoint, y)):
        each = torch.stack([torch.stack([map_(v) for v in rows]) for rows in batch])
        _close(map_(batch), each, f"{name} of a batch (2, 3, ·) = {name} of each vector")


def repeats_from_its_seed(subject: GradientSketch) -> None:
    """The same seed is the same S, to the bit, and S stays what it is between products."""
    x = _normal(100, seed=1)
    s = _built(subject, 100, seed=5)
    first, second, again = s.apply(x), s.apply(x), _built(subject, 100, seed=5).apply(x)
    assert torch.equal(first, second), "expected two products with one S to be equal"
    assert torch.equal(first, again), "expected the same seed to build the same S"


def keeps_norms_on_average(subject: GradientSketch) -> None:
    """E‖Sx‖² = ‖x‖² over 200 draws: x dense, x = e₁, and the mean over all axes.

    A mean of n draws of deviation σ, none further than M from 1, may be off by 4σ/√n + 16M/(3n)
    (Bernstein's inequality: by more with a probability of 2e⁻⁸ at most). For e₁, σ and M are
    those of all axes: a sketch that samples D of N coordinates may never have drawn the first.
    """
    x = _normal(500, seed=1)
    dense, axes = [], []
    for seed in range(DRAWS):
        s = _built(subject, 500, seed)
        dense.append(s.apply(x).square().sum() / x.square().sum())
        axes.append(s.apply(torch.eye(500)).square().sum(-1))
    every = torch.stack(axes).double()  # (draws, axes)
    _averages_one("a dense x", torch.stack(dense).double())
    _averages_one("x = e₁", every[:, 0], like=every)
    _averages_one("all axes together", every.mean(1))


def leaves_the_global_generator(subject: GradientSketch) -> None:
    """Drawing and applying S take their randomness from the generator handed to build."""
    before = torch.get_rng_state()
    s = _built(subject, 100)
    s.adjoint(s.apply(_normal(100, seed=1)))
    assert torch.equal(before, torch.get_rng_state()), (
        "expected torch's global generator to be untouched; draw from the rng handed to build"
    )


def repeats_with_its_period(subject: GradientSketch) -> None:
    """The operations of Sx and of Sᵀy repeat with `full_period()`, and with no shorter period."""
    s, x = _built(subject, 100), _normal(100, seed=1)
    repeats(subject, lambda: s.adjoint(s.apply(x)), WATCHED)


LAWS = (
    has_the_shape,
    is_linear,
    has_an_adjoint,
    maps_batches,
    repeats_from_its_seed,
    keeps_norms_on_average,
    leaves_the_global_generator,
    repeats_with_its_period,
)


def _built(subject: GradientSketch, size: int, seed: int = 0) -> LinearSketch:
    return subject.build(size, Generator().manual_seed(seed), torch.device("cpu"))


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


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


def _close(actual: Tensor, expected: Tensor, law: str) -> None:
    # entries are sums of terms with signs: their error is relative to the vector, not the entry
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(
        actual, expected, rtol=0, atol=1e-5 * scale, msg=lambda text: f"expected {law}\n{text}"
    )
