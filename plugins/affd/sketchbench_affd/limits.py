"""What sizes these sketches take."""

from __future__ import annotations


def power_of_two(recipe: str, field: str, value: int) -> None:
    """Raise `ValueError` where a field isn't a power of two, naming the nearest two that are."""
    if value & (value - 1):
        below = 1 << (value.bit_length() - 1)
        raise ValueError(
            f"gradient_sketch '{recipe}': {field} {value} is no power of two; "
            f"take {below} or {2 * below}"
        )
