"""What a sample can say: means, paired differences, ratios and quotients, with their intervals.

Every interval is two-sided, at 95 %. A value that is missing or not finite is left out of the
numbers but never out of the count: each estimate says from how many of how many it was made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Mean:
    """A mean and the half-width of its interval; `n` of the `of` values are finite.

    `value` is NaN where n = 0; there is no interval where n < 2.
    """

    value: float
    half_width: float | None
    n: int
    of: int

    @property
    def low(self) -> float | None:
        """The lower end of the interval."""
        return None if self.half_width is None else self.value - self.half_width

    @property
    def high(self) -> float | None:
        """The upper end of the interval."""
        return None if self.half_width is None else self.value + self.half_width


@dataclass(frozen=True)
class Difference(Mean):
    """The mean of paired differences; `n` of the `of` pairs are complete."""

    def undecided(self) -> bool | None:
        """Whether the interval holds 0; None where there is no interval."""
        return None if self.low is None or self.high is None else self.low <= 0 <= self.high


@dataclass(frozen=True)
class Ratio:
    """The geometric mean of paired ratios, its interval that of the logarithms, exponentiated.

    `n` of the `of` pairs are complete and positive; there is no interval where n < 2.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    of: int

    def undecided(self) -> bool | None:
        """Whether the interval holds 1; None where there is no interval."""
        return None if self.low is None or self.high is None else self.low <= 1 <= self.high


@dataclass(frozen=True)
class Quotient:
    """The quotient of two means over pairs, with Fieller's interval, which needn't be symmetric.

    `n` of the `of` pairs are complete; there is no interval where n < 2. NaN, with the
    denominator's mean in `below`, where the denominator can't be told from 0.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    of: int
    below: Mean | None = None


Pairs = Iterable[tuple[float | None, float | None]]


def mean(values: Iterable[float | None]) -> Mean:
    """Return the mean of `values` with its interval; None and non-finite values only count."""
    given = list(values)
    finite = _finite(given)
    return Mean(*_moments(finite), n=len(finite), of=len(given))


def difference(pairs: Pairs) -> Difference:
    """Return the mean of a - b over pairs (a, b) with its interval."""
    given = list(pairs)
    finite = _finite([None if a is None or b is None else a - b for a, b in given])
    return Difference(*_moments(finite), n=len(finite), of=len(given))


def ratio(pairs: Pairs) -> Ratio:
    """Return the geometric mean of a / b over pairs (a, b) with its interval."""
    given = list(pairs)
    logs = _finite([_log_ratio(a, b) for a, b in given])
    centre, half_width = _moments(logs)
    low = None if half_width is None else _exp(centre - half_width)
    high = None if half_width is None else _exp(centre + half_width)
    return Ratio(_exp(centre), low, high, n=len(logs), of=len(given))


def quotient(pairs: Pairs) -> Quotient:
    """Return mean(a) / mean(b) over pairs (a, b): all θ for which a − θb can't be told from 0 on
    average. [Fieller 1954]

    That is an interval exactly where 0 isn't in that of b's mean; elsewhere nothing is said.
    """
    given = list(pairs)
    finite = [
        (a, b) for a, b in given if a is not None and b is not None and _finite([a, b]) == [a, b]
    ]
    n, of = len(finite), len(given)
    below = mean(b for _, b in finite)
    if not n:
        return Quotient(math.nan, None, None, n, of)
    if below.value == 0 or Difference(below.value, below.half_width, n, of).undecided():
        return Quotient(math.nan, None, None, n, of, below)
    value = mean(a for a, _ in finite).value / below.value
    if n < 2:
        return Quotient(value, None, None, n, of)
    low, high = _fieller(finite, value, below.value)
    return Quotient(value, low, high, n, of)


def decidable(n: int) -> float:
    """Return the paired interval's half-width for n seeds, in standard deviations of differences.

    A true difference below it is told from none about half the time or less; with fewer than two
    seeds, none ever is.
    """
    return math.inf if n < 2 else quantile(n - 1) / math.sqrt(n)


@cache
def quantile(freedom: int) -> float:
    """Return Student's t at (1 + 95 %) / 2 for `freedom` degrees of freedom."""
    from scipy.special import stdtrit  # what scipy.stats.t.ppf calls, for half its import

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


def _finite(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _moments(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and half-width, computed in units of a power of two: no square overflows."""
    n = len(values)
    if n == 0:
        return math.nan, None
    low, high = min(values), max(values)
    if low == high:
        return low, (0.0 if n > 1 else None)
    exponent = math.frexp(max(-low, high))[1]
    scaled = [math.ldexp(value, -exponent) for value in values]
    centre = math.fsum(scaled) / n
    variance = math.fsum((value - centre) ** 2 for value in scaled) / (n - 1)
    half_width = quantile(n - 1) * math.sqrt(variance / n)
    return _ldexp(centre, exponent), _ldexp(half_width, exponent)


def _fieller(
    pairs: Sequence[tuple[float, float]], value: float, below: float
) -> tuple[float, float]:
    """Return the θ at which |mean(a − θb)| is t standard errors; `value` lies between them.

    With o = (a − value·b)/below and u = b/below − 1, whose means are 0, θ = value + η has
    (1 − g)η² + 2·cross·η − spread = 0, where g, cross and spread are t² times the (co)variances of
    the means of u, of o and u, of o. Nothing cancels; o is in a unit in which no square overflows.
    """
    n = len(pairs)
    rest = [(a - value * b) / below for a, b in pairs]
    unit = max(map(abs, rest)) or 1.0
    over, under = [each / unit for each in rest], [b / below - 1 for _, b in pairs]
    scale = quantile(n - 1) ** 2 / (n * (n - 1))
    g = scale * math.fsum(u * u for u in under)
    cross = scale * math.fsum(o * u for o, u in zip(over, under, strict=True))
    spread = scale * math.fsum(o * o for o in over)
    root = math.sqrt(cross * cross + (1 - g) * spread)
    return value - unit * (cross + root) / (1 - g), value + unit * (root - cross) / (1 - g)


def _ldexp(value: float, exponent: int) -> float:
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.copysign(math.inf, value)


def _log_ratio(a: float | None, b: float | None) -> float | None:
    if a is None or b is None or not (a > 0 and b > 0):
        return None
    quotient = a / b
    near = math.isfinite(quotient) and quotient > 1e-300  # one rounding instead of three
    return math.log(quotient) if near else math.log(a) - math.log(b)


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
