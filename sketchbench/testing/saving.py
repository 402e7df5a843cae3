"""The law of what an activation sketch keeps for the backward pass: fewer bytes, if it says so."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from sketchbench import ActivationSketch, SketchedModel, Skip
from sketchbench.autodiff import Plain, seeded
from sketchbench.measure import LiveBytes
from sketchbench.protocols import Watched

WIDTH, HIDDEN, CLASSES = 64, 6, 10


def keeps_fewer_bytes_above_its_break_even(subject: ActivationSketch) -> None:
    """At twice its break-even batch it keeps fewer bytes than exact training.

    On 6 hidden layers of width 64, each a linear layer and a ReLU, before a linear layer to 10
    classes with cross-entropy, in float32. Kept are activations and sketches that live when the
    backward pass begins, the most of any step in one period. Below break-even nothing is asserted.
    """
    least = subject.break_even(WIDTH)
    if least is None:
        pytest.skip(
            f"{subject.name} doesn't claim to save memory in a stack with ReLU: "
            f"break_even({WIDTH}) is None, not a number of rows"
        )
    assert isinstance(least, int) and least >= 1, (  # noqa: PT018  # one sentence of the law
        f"expected break_even({WIDTH}) to be a number of rows, at least 1, or None; got {least!r}"
    )
    rows = 2 * least
    model = _stack()
    try:
        sketched = subject.build(model, rows, Generator().manual_seed(0))
        kept = max(_kept(sketched, rows) for _ in range(subject.full_period() + 1))
    except Skip as reason:
        pytest.skip(str(reason))
    exact = _kept(Plain(_stack()), rows)
    assert kept < exact, (
        f"expected fewer bytes kept than the {exact} of exact training at {rows} rows, twice "
        f"break_even({WIDTH}), in {HIDDEN} hidden layers; it keeps {kept}"
    )


def _stack() -> nn.Module:
    with seeded(Generator().manual_seed(0)):
        hidden = [layer for _ in range(HIDDEN) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
        return nn.Sequential(*hidden, nn.Linear(WIDTH, CLASSES))


def _kept(sketched: SketchedModel, rows: int) -> int:
    """Return the bytes that one step keeps for its backward pass."""
    batch = _batch(rows)
    watching = LiveBytes(torch.device("cpu"), Watched(model=sketched.model, inputs=batch))
    with watching:
        sketched.accumulate(*batch, F.cross_entropy)
    return sum(watching.footprint.kept.values())


def _batch(rows: int) -> tuple[Tensor, Tensor]:
    rng = Generator().manual_seed(1)
    inputs = torch.randn(rows, WIDTH, generator=rng)
    return inputs, torch.randint(CLASSES, (rows,), generator=rng)
