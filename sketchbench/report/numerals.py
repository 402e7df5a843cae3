"""Numerals: how a number, its interval and its unit are spelt."""

from __future__ import annotations

import math
import statistics as plain
from collections.abc import Iterable
from dataclasses import dataclass

from sketchbench.statistics import Difference, Mean, Quotient, Ratio

DIGITS = 4  # significant digits of a number without an interval
MOST = 7  # and at most, however narrow the interval
WIDEST = 1e4  # a ratio's interval, upper end over lower, that is spelt out

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES = tuple(
    (1024.0**i, f"{prefix}B") for i, prefix in reversed([*enumerate(("", "Ki", "Mi", "Gi", "Ti"))])
)
_FLOPS = tuple(
    (1000.0**i, f"{prefix}FLOP")
    for i, prefix in reversed([*enumerate(("", "k", "M", "G", "T", "P"))])
)
_FAMILIES = {
    **dict.fromkeys(("s", "second", "seconds"), _SECONDS),
    **dict.fromkeys(("B", "byte", "bytes"), _BYTES),
    **dict.fromkeys(("FLOP", "FLOPs", "flop", "flops"), _FLOPS),
}


@dataclass(frozen=True)
class Scale:
    """The unit in which a column is shown: values are divided by `size`."""

    size: float
    unit: str

    def mean(self, found: Mean | Quotient) -> str:
        """Spell a mean with its half-width: `0.9712 ± 0.0031`; `–` where there is none."""
        if isinstance(found, Quotient):
            return quotient(found)
        return self._spelt(found, 0.0, "") if found.n else "–"

    def difference(self, found: Difference, around: float) -> str:
        """Spell a difference between values `around` that size: `+0.0120 ± 0.0031`."""
        return self._spelt(found, around / self.size, "+") if found.n else "–"

    def _spelt(self, found: Mean, around: float, sign: str) -> str:
        half_width = None if found.half_width is None else found.half_width / self.size
        return number(found.value / self.size, half_width, around, sign)


def scale(unit: str, values: Iterable[float]) -> Scale:
    """Return the multiple of `unit` that suits the middle one of `values`."""
    family = _FAMILIES.get(unit)
    sizes = [abs(value) for value in values if math.isfinite(value) and value]
    if family is None or not sizes:
        return Scale(1.0, "" if unit in ("1", "fraction") else unit)
    middle = plain.median(sizes)
    return Scale(*next((step for step in family if middle >= step[0]), family[-1]))


def ratio(found: Ratio) -> str:
    """Spell a ratio with its interval: `0.52 [0.50, 0.54]`."""
    if not found.n:
        return "–"
    ends = [found.value if end is None else end for end in (found.low, found.value, found.high)]
    if ends[2] > WIDEST * ends[0]:  # too few seeds: the interval says nothing, so say it shortly
        low = "<0.01" if ends[0] < 0.01 else f"{ends[0]:.2g}"
        high = ">100" if ends[2] > 100 else f"{ends[2]:.2g}"
        return f"{found.value:.2g} [{low}, {high}]"
    if not all(1e-4 <= end < 10**MOST for end in ends):
        low, value, high = (f"{end:.2e}" for end in ends)
    elif ends[2] > 10 * ends[0]:  # one number of decimals can't suit both ends
        low, value, high = (f"{end:.{max(1 - _top(end), 0)}f}" for end in ends)
    else:
        decimals = _decimals(found.value, (ends[2] - ends[0]) / 2)
        low, value, high = (f"{end:.{decimals}f}" for end in ends)
    if found.low is None:
        return value
    return f"{value} ± 0" if low == high else f"{value} [{low}, {high}]"


def quotient(found: Quotient) -> str:
    """Spell a quotient with its interval: `0.93 [0.85, 1.02]`."""
    if math.isnan(found.value):
        return "–"
    if found.low is None or found.high is None:
        return number(found.value)
    ends = (found.value, found.low, found.high)
    decimals = _decimals(max(map(abs, ends)), (found.high - found.low) / 2)
    value, low, high = (f"{end:.{decimals}f}" for end in ends)
    return f"{number(found.value)} ± 0" if low == high else f"{value} [{low}, {high}]"


def number(
    value: float, half_width: float | None = None, around: float = 0.0, sign: str = ""
) -> str:
    """Spell a number to two significant digits of its half-width, to four where it has none.

    `around` is the size of what it was computed from: no digit below its rounding is shown.
    """
    if not math.isfinite(value) or (half_width is not None and not math.isfinite(half_width)):
        return f"{value:{sign}.{DIGITS}g}" + ("" if half_width is None else f" ± {half_width:.2g}")
    size = max(abs(value), abs(around))
    top = _top(size)
    power = 0 if -4 <= top < MOST else top
    shift = 10.0**-power if -300 < power < 300 else 0.0
    if power and not shift:  # at the ends of the range of floats
        return f"{value:{sign}.2e}" + ("" if half_width is None else f" ± {half_width:.1e}")
    value, half = value * shift if power else value, (half_width or 0.0) * (shift if power else 1)
    decimals = _decimals(max(size * (shift if power else 1), abs(value)), half)
    if not half and value == int(value):
        decimals = 0
    text = f"{value:{sign}.{decimals}f}"
    if not float(text):
        text = "0"
    if half_width is not None:
        wide = f"{half:.{decimals}f}"
        text += f" ± {wide if float(wide) else '0'}"
    if not power:
        return text
    return f"({text})e{power:+03d}" if half_width is not None else f"{text}e{power:+03d}"


def _top(size: float) -> int:
    """Return the power of ten of the first digit."""
    return math.floor(math.log10(size)) if size else 0


def _decimals(size: float, half_width: float) -> int:
    top = _top(size)
    decimals = DIGITS - 1 - top
    if half_width:
        rounded = float(f"{half_width:.1e}")
        decimals = 1 - _top(rounded)
    return min(max(decimals, 0), max(MOST - 1 - top, 0))
