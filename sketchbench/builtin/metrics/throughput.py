"""Derived metrics of throughput: time an entry, and the share of the machine's copy bandwidth."""

from __future__ import annotations

from typing import ClassVar, Literal

from sketchbench import Derived, Field, Measured, Missing


class _OfProducts(Derived):
    relative = True
    margin = 0.05
    product: Literal["step", "adjoint"] = Field(
        "step", description="Which product: `step` is Sx, `adjoint` is Sᵀy."
    )
    beside: ClassVar[tuple[str, ...]] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """The product's time, and what it is compared with."""
        return (f"{self.product}_time", *self.beside)

    def times(self, cell: Measured) -> tuple[float, ...] | None:
        """Return the seconds of what it needs, or None where one wasn't measured."""
        found = [cell.value(name, name.removesuffix("_time")) for name in self.needs]
        known = tuple(value for value in found if value is not None)
        return known if len(known) == len(found) else None


class NsPerElement(_OfProducts):
    """Nanoseconds of a product for each entry of its vectors: the time over N times the batch."""

    name = "ns_per_element"
    unit = "ns"
    direction = "lower"

    def derive(
        self, cell: Measured, baseline: Measured | None = None, control: Measured | None = None
    ) -> float | None:
        """Return the quotient; raise `Missing` of a workload without sizes."""
        found = self.times(cell)
        workload = cell.config.get("workload") or {}
        size, batch = workload.get("size"), workload.get("batch")
        if size is None or batch is None:
            raise Missing("the workload has no `size` and `batch`")
        return 1e9 * found[0] / (size * batch) if found else None


class CopyShare(_OfProducts):
    """Share of the copy bandwidth: the time of copying the same vectors over that of a product.

    Copies and products take turns in one run. A copy reads and writes each entry; what only reads
    them could reach more than 1.
    """

    name = "copy_share"
    unit = "fraction"
    direction = "higher"
    beside = ("copy_time",)

    def derive(
        self, cell: Measured, baseline: Measured | None = None, control: Measured | None = None
    ) -> float | None:
        """Return the quotient of the two times."""
        found = self.times(cell)
        return found[1] / found[0] if found else None
