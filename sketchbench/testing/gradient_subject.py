"""What every law of gradient sketches does with its subject: build it, feed it, compare."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from sketchbench import GradientSketch, Guarantee, LinearSketch

CPU = torch.device("cpu")


def built(subject: GradientSketch, size: int, seed: int = 0) -> LinearSketch:
    """Return the sketch of vectors of `size` that this seed draws."""
    return subject.build(size, Generator().manual_seed(seed), CPU)


def normal(*shape: int, seed: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return independent N(0, 1) numbers (*shape)."""
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=dtype)


def close(actual: Tensor, expected: Tensor, law: str, tolerance: float = 1e-5) -> None:
    """Assert that two tensors agree to `tolerance` of the largest entry that is expected.

    Entries are sums of terms with signs: their error is relative to the vector, not the entry.
    """
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(
        actual,
        expected,
        rtol=0,
        atol=tolerance * scale,
        msg=lambda text: f"expected {law}\n{text}",
    )


def out_size_of(subject: GradientSketch) -> int:
    """Return the D that the subject asks for, or 64 where it has none: what selects, say."""
    return getattr(subject, "out_size", None) or 64


def promised(subject: GradientSketch, size: int) -> Guarantee:
    """Return what the subject promises of vectors of `size`; skip the law where that is nothing."""
    guarantee = subject.guarantee(size)
    if guarantee is None:
        pytest.skip(
            f"{subject.name} promises nothing: let guarantee(size) return its worst kappa, the "
            "adversarial inputs that break it, and whether it is unbiased"
        )
    return guarantee


def draws_at_random(subject: GradientSketch, size: int) -> None:
    """Skip the law where the subject may select, and draw nothing: biased, or the identity."""
    guarantee = subject.guarantee(size)
    x = normal(size, seed=1)
    if torch.equal(built(subject, size).apply(x), x):
        pytest.skip(f"{subject.name} builds the identity at N={size}: it needs to draw nothing")
    if guarantee is not None and not guarantee.unbiased:
        pytest.skip(f"{subject.name} says that it is biased: what selects needs to draw nothing")
