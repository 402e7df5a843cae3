"""What a model found in a random subspace says of its own generalisation: a compression bound."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sketchbench import Missing

if TYPE_CHECKING:
    from torch import Tensor

WIDTHS = range(1, 9)  # bits of one quantised number that are tried; 3 bits tell which it was
SCALE_BITS = 32  # of the one float that the quantised numbers are multiplied with
HALVINGS = 60  # of the interval in which a bound is sought


@dataclass(frozen=True)
class Compressed:
    """Outcome: codes of one model, each of `bits` (k,) bits, and their `errors` (k,) in training.

    An error is the mean over the `examples` trained on, which are independent, of a number from 0
    to 1; `chance` is the error of one who guesses among all classes.
    """

    bits: tuple[int, ...]
    errors: tuple[float, ...]
    examples: int
    chance: float

    def bound(self, confidence: float) -> float:
        """Return what the expected error of the best code is below, with this confidence.

        A code of b bits has the prior 2⁻ᵇ, so with Chernoff's bound and a union over all codes
        n·kl(error ‖ expected) ≤ b·ln 2 + ln(1/(1 − confidence)). [Langford 2005, Theorem 3.3;
        Lotfi et al. 2022, §3, who have Hoeffding's in its place]
        """
        if not self.bits:
            raise Missing("no code of the model was made")
        slack = -math.log1p(-confidence)
        return min(
            _expected(error, (bits * math.log(2) + slack) / self.examples)
            for bits, error in zip(self.bits, self.errors, strict=True)
        )


def quantised(omega: Tensor, bits: int) -> Tensor:
    """Return ω (d,) rounded to 2ᵇ evenly spaced numbers from −max|ω| to max|ω|."""
    largest = omega.abs().max()
    if not largest > 0:
        return omega
    steps = 2**bits - 1
    rounded: Tensor = ((omega / largest + 1) * steps / 2).round() * 2 / steps - 1
    return rounded * largest


def code_bits(dimension: int, bits: int, dimensions: int) -> int:
    """Return the length of a code of d numbers of b bits: themselves, the scale, b, and d.

    d is one of so many `dimensions` that a search may come to.
    """
    return dimension * bits + SCALE_BITS + 3 + math.ceil(math.log2(dimensions))


def _expected(error: float, budget: float) -> float:
    """Return the largest p with kl(error ‖ p) ≤ budget, of Bernoulli variables."""
    low, high = error, 1.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _divergence(error, middle) <= budget else (low, middle)
    return high


def _divergence(q: float, p: float) -> float:
    """Return kl(q ‖ p) of two Bernoulli variables, in nats."""
    terms = ((q, p), (1 - q, 1 - p))
    return sum(a * math.log(a / b) if b > 0 else math.inf for a, b in terms if a > 0)
