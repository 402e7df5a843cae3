"""The ledger: births and deaths of storages in one region, and what follows from them.

The log is append-only and labels are resolved when the region is over, so a gradient is a gradient
from its first byte. Peak and breakdown come from replaying the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["before", "forward", "backward", "optimizer"]

CATEGORIES = (
    "parameters",
    "buffers",
    "inputs",
    "gradients",
    "optimizer_state",
    "activations",
    "sketches",
    "external",
    "forward_temporaries",
    "backward_temporaries",
    "optimizer_temporaries",
)

_UNNAMED: Mapping[str, str] = {
    "before": "external",
    "forward": "forward_temporaries",
    "backward": "backward_temporaries",
    "optimizer": "optimizer_temporaries",
}


@dataclass(eq=False, slots=True)
class Block:
    """One storage: its bytes, where it was born, and whose it is (once something has said so)."""

    size: int
    phase: Phase
    op: str = ""
    label: str | None = None
    kept: bool = False  # born in forward, alive when a backward began
    state: bool = False  # the optimizer's own, whatever its label
    shape: tuple[int, ...] = ()  # of the tensor that it was born as
    dtype: str = ""
    module: str = ""  # where in the model, if someone asked for it
    keepers: list[str] = field(default_factory=list)  # modules that saved it for their backward

    @property
    def category(self) -> str:
        """Return one of `CATEGORIES`."""
        return self.label or ("activations" if self.kept else _UNNAMED[self.phase])


@dataclass(frozen=True)
class Footprint:
    """The memory of one region, in bytes of whole storages.

    `start` is what was counted when it began; `peak` the most at any time, with its parts by
    category `at_peak` and the operation `during` which it was reached; `highest` the most of each
    category at any time. `kept` are activations and sketches when the backward began that kept
    most, without sketches that the optimizer holds as its state; `kept_blocks` the storages
    themselves. `state` is the optimizer's, by declared part.
    """

    start: int
    peak: int
    at_peak: Mapping[str, int]
    during: str
    highest: Mapping[str, int]
    kept: Mapping[str, int]
    kept_blocks: Sequence[Block]
    state: Mapping[str, int]
    events: Sequence[tuple[Block, int]] = field(repr=False)  # births and deaths, base included


class Ledger:
    """An append-only log of changes, over what was there at the beginning."""

    def __init__(self) -> None:
        self.base: list[tuple[Block, int]] = []
        self.log: list[tuple[Block, int]] = []
        self.keepings: list[list[tuple[Block, int]]] = []  # at the beginning of each backward

    def was_there(self, block: Block) -> None:
        """Note a storage that existed before the region."""
        self.base.append((block, block.size))

    def born(self, block: Block) -> None:
        """Log a birth."""
        self.log.append((block, block.size))

    def died(self, block: Block) -> None:
        """Log a death."""
        self.log.append((block, -block.size))

    def resized(self, block: Block, size: int) -> None:
        """Log a change of size."""
        self.log.append((block, size - block.size))
        block.size = size

    def begin_backward(self, alive: Sequence[Block]) -> None:
        """Take what forward left alive for what the backward pass keeps."""
        for block in alive:
            block.kept = block.kept or block.phase == "forward"
        self.keepings.append([(block, block.size) for block in alive])

    def footprint(self, state: Mapping[str, int]) -> Footprint:
        """Replay the log, now that every label is known."""
        now: Counter[str] = Counter()
        for block, change in self.base:
            now[block.category] += change
        highest, peak, at_peak, during = Counter(now), sum(now.values()), dict(now), "the beginning"
        start = total = peak
        for block, change in self.log:
            category = block.category
            now[category] += change
            total += change
            highest[category] = max(highest[category], now[category])
            if total > peak:
                peak, at_peak, during = total, dict(now), f"{block.op}, {block.phase}"
        kept, blocks = self._kept()
        return Footprint(
            start=start,
            peak=peak,
            at_peak=_ordered(at_peak),
            during=during,
            highest=_ordered(highest),
            kept=_ordered(kept),
            kept_blocks=blocks,
            state=dict(state),
            events=[*self.base, *self.log],
        )

    def _kept(self) -> tuple[Counter[str], list[Block]]:
        """Return what is kept, by category and by storage, for the backward that keeps most."""
        most: Counter[str] = Counter()
        blocks: list[Block] = []
        for alive in self.keepings:
            kept = [
                (block, size)
                for block, size in alive
                if block.category in ("activations", "sketches") and not block.state
            ]
            now: Counter[str] = Counter()
            for block, size in kept:
                now[block.category] += size
            if sum(now.values()) > sum(most.values()):
                most, blocks = now, [block for block, _ in kept]
        return most, blocks


def _ordered(found: Mapping[str, int]) -> dict[str, int]:
    return {category: found[category] for category in CATEGORIES if found.get(category)}


def events(footprint: Footprint) -> Iterator[tuple[int, int]]:
    """Yield (block, ±bytes) in the order of time, as a simulated allocator reads them."""
    numbers: dict[int, int] = {}
    for block, change in footprint.events:
        yield numbers.setdefault(id(block), len(numbers)), change
