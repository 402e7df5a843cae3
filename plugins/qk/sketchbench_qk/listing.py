"""QK as its listing has it: whole factors, of whose product the first rows are kept."""

from __future__ import annotations

import math
from typing import Self

import torch
from pydantic import model_validator
from torch import Generator
from torch.nn import functional as F

from sketchbench import Field, GradientSketch, Guarantee
from sketchbench.linalg import (
    adversarial,
    balanced,
    expect_power_of_two,
    orthogonal,
    padded,
    seed_of,
    stream,
)
from sketchbench_qk.qk import QKSketch
from sketchbench_qk.shapes import second_moment

METHOD = "qk-listing2"  # part of what a seed means
BROKEN = 1 / 2  # variance of ‖Sx‖² from the leading factor alone, above which no D mends it


class QKListing2(GradientSketch):
    """y = R_D √(M/D) (Q₁ ⊗ … ⊗ Q_K) x, with whole Haar factors Q_i. [Schioppa 2024, Listing 2]

    Not a valid sketch, and not the QK of equation 8 or Theorem 3.3: the first D rows of the product
    hold D_i = B_i rows of the last factors and few, often one, of the leading ones. One row is one
    random direction: ‖Sx‖² of an x that is coherent along that axis (one coordinate, a constant, an
    outer product) varies as much as (B/1)·Beta(1/2, (B − 1)/2), however large the rest.

    Differs from the paper:
    1. The adjoint is the adjoint. Listing 3 slices factors by the shapes of D, pairing lists of
       unequal lengths, and is the adjoint of Listing 2 in no case but that of equal shapes.
    2. Rows of the leading factors that no kept row needs aren't held.
    3. Q of a Gaussian matrix gets the signs of R's diagonal, without which it isn't Haar.
    4. Scaled by the padded M, not N: else it isn't unbiased.
    """

    name = "qk-listing2"
    out_size: int = Field(
        256,
        ge=1,
        description="D, length of the sketch: a power of two, so that every row is whole.",
    )
    factor_size: int = Field(
        1024, ge=2, description="Largest order of a Kronecker factor, a power of two."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for field in ("out_size", "factor_size"):
            expect_power_of_two("gradient_sketch 'qk-listing2'", field, getattr(self, field))
        return self

    def build(self, size: int, rng: Generator, device: torch.device) -> QKSketch:
        """Draw the factors of S (D, size), without rows that nothing needs."""
        seed = seed_of(rng)
        drawn = [
            orthogonal(stream(seed, METHOD, index), b, d).float().to(device)
            for index, (d, b) in enumerate(zip(*self._shapes(size), strict=True))
        ]
        return QKSketch((self.out_size, size), drawn)

    def guarantee(self, size: int) -> Guarantee:
        """Return the inputs of which the leading factor alone makes Var‖Sx‖² more than 1/2.

        That part is 2β(s − 1/B) with s = ‖XXᵀ‖² of x as a matrix X of B rows, ‖x‖ = 1, and β as in
        `qk`. κ bounds the other named inputs, as further factors add at most what they add to a
        product vector; it promises nothing of inputs that have no name.
        """
        rows, columns = self._shapes(size)
        beta = (second_moment(rows[0], columns[0]) - 1) * columns[0] / (2 * max(1, columns[0] - 1))
        parts = {}
        for name, x in adversarial(size, self.out_size).items():
            matrix = F.pad(x, (0, math.prod(columns) - size)).view(columns[0], -1)
            purity = float((matrix @ matrix.mT).square().sum())
            parts[name] = 2 * beta * (purity - 1 / columns[0])
        rest = math.prod(second_moment(d, b) for d, b in zip(rows[1:], columns[1:], strict=True))
        largest = max((part for part in parts.values() if part <= BROKEN), default=BROKEN)
        broken = tuple(name for name, part in parts.items() if part > BROKEN)
        return Guarantee(self.out_size * ((1 + largest) * rest - 1) / 2, broken)

    def state_bytes(self, size: int) -> int:
        """Return the float32 rows that are held."""
        return 4 * sum(d * b for d, b in zip(*self._shapes(size), strict=True))

    def _shapes(self, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the rows of each factor that the first D of the product need, and its order."""
        order = padded(max(size, self.out_size))
        count = max(1, math.ceil((order.bit_length() - 1) / (self.factor_size.bit_length() - 1)))
        columns = balanced(order, count)
        rows, rest = [], self.out_size
        for column in reversed(columns):
            rows.append(min(column, rest))
            rest = -(-rest // column)
        return tuple(reversed(rows)), columns
