"""CUDA's caching allocator, simulated: what a stream of blocks would reserve on a device.

Follows `c10/cuda/CUDACachingAllocator.cpp` of PyTorch in its default configuration with one
stream: no expandable segments, no limit on splitting, no garbage collection, no graph pools.
It is a simulation, and it was not validated against a GPU.

Sizes are rounded up to 512 B. Up to 1 MiB they come from the small pool, in segments of 2 MiB;
above from the large pool, in segments of 20 MiB below 10 MiB and of the next multiple of 2 MiB
from there on. The smallest free block that fits is taken, at the lowest address; what is left of
it is split off if it is at least 512 B (small pool) or more than 1 MiB (large pool), and counts
as allocated otherwise. A freed block merges with its free neighbours. Segments are kept, until
the device is full: then every segment that is free as a whole is given back, once.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

MIB = 2**20
GRAIN = 512  # bytes; sizes are rounded up to it, and no smaller rest is split off
SMALL = MIB  # the largest size of the small pool
SMALL_SEGMENT = 2 * MIB
MEDIUM = 10 * MIB  # sizes of the large pool below it share segments
MEDIUM_SEGMENT = 20 * MIB
LARGE_GRAIN = 2 * MIB


class Simulated(NamedTuple):
    """Peaks in bytes, each on its own: requested ≤ allocated (in blocks) ≤ reserved (segments)."""

    requested_peak: int
    allocated_peak: int
    reserved_peak: int


class OutOfMemory(Exception):
    """The device is full, even after every free segment was given back."""


def simulate(events: Iterable[tuple[Hashable, int]], capacity: int | None = None) -> Simulated:
    """Replay events (block, +bytes) to allocate and (block, -bytes) to free it again.

    A resize is a free and an allocation; no bytes are no block, as on a device. Raises
    `OutOfMemory` where more than `capacity` bytes of segments would be needed, and `ValueError`
    where a block is allocated twice, or freed that isn't there or with another size.
    """
    allocator = CachingAllocator(capacity)
    alive: dict[Hashable, Block] = {}
    for at, (name, size) in enumerate(events):
        if size > 0:
            if name in alive:
                raise ValueError(f"event {at}: block {name!r} is allocated already")
            try:
                alive[name] = allocator.allocate(size)
            except OutOfMemory as full:
                raise OutOfMemory(f"event {at}: {full}") from None
        elif size < 0:
            block = alive.pop(name, None)
            if block is None:
                raise ValueError(f"event {at}: block {name!r} is freed, but not allocated")
            if block.requested != -size:
                raise ValueError(
                    f"event {at}: block {name!r} is freed with {-size} bytes; it was allocated "
                    f"with {block.requested}"
                )
            allocator.free(block)
    return Simulated(allocator.requested.peak, allocator.allocated.peak, allocator.reserved.peak)


@dataclass(eq=False, slots=True)
class Block:
    """A stretch of a segment, free (nothing requested) or allocated, between its neighbours."""

    pool: Pool
    address: int
    size: int
    requested: int = 0
    before: Block | None = None
    after: Block | None = None

    @property
    def free(self) -> bool:
        """Whether it can be given out."""
        return not self.requested


@dataclass(eq=False, slots=True)
class Pool:
    """Free blocks as (size, address, block), in the order in which they are tried."""

    rest: int  # the smallest rest, in bytes, that is split off
    blocks: list[tuple[int, int, Block]] = field(default_factory=list)

    def add(self, block: Block) -> None:
        """Put a free block in its place."""
        insort(self.blocks, (block.size, block.address, block))

    def remove(self, block: Block) -> None:
        """Take out a block that is there."""
        del self.blocks[bisect_left(self.blocks, (block.size, block.address))]

    def take(self, size: int) -> Block | None:
        """Take out the smallest block of at least `size` bytes, at the lowest address."""
        at = bisect_left(self.blocks, (size, -1))
        return self.blocks.pop(at)[2] if at < len(self.blocks) else None


@dataclass(slots=True)
class Gauge:
    """Bytes now, and the most there were."""

    now: int = 0
    peak: int = 0

    def add(self, size: int) -> None:
        """Change by `size` bytes."""
        self.now += size
        self.peak = max(self.peak, self.now)


class CachingAllocator:
    """One device's pools and segments; see the module for the rules."""

    def __init__(self, capacity: int | None = None) -> None:
        self.requested, self.allocated, self.reserved = Gauge(), Gauge(), Gauge()
        self._capacity = capacity
        self._small = Pool(rest=GRAIN)
        self._large = Pool(rest=SMALL + 1)
        self._segments: dict[int, Block] = {}  # each one's first block, by its address
        self._end = 0

    def allocate(self, size: int) -> Block:
        """Return a block for `size` > 0 bytes; raise `OutOfMemory` where none can be had."""
        rounded = -(-size // GRAIN) * GRAIN
        pool = self._small if rounded <= SMALL else self._large
        block = pool.take(rounded) or self._segment(rounded, pool)
        if block.size - rounded >= pool.rest:
            pool.add(_split(block, rounded))
        block.requested = size
        self.requested.add(size)
        self.allocated.add(block.size)
        return block

    def free(self, block: Block) -> None:
        """Give back an allocated block."""
        self.requested.add(-block.requested)
        self.allocated.add(-block.size)
        block.requested = 0
        if block.after is not None and block.after.free:
            block.pool.remove(block.after)
            _absorb_next(block)
        if block.before is not None and block.before.free:
            block = block.before
            block.pool.remove(block)
            _absorb_next(block)
        block.pool.add(block)

    def segments(self) -> Iterator[list[Block]]:
        """Yield the blocks of each segment, in the order of their addresses."""
        for first in self._segments.values():
            blocks = [first]
            while (following := blocks[-1].after) is not None:
                blocks.append(following)
            yield blocks

    def _segment(self, size: int, pool: Pool) -> Block:
        wanted = _segment_size(size)
        if self._full(wanted):
            self._release()
        if self._full(wanted):
            raise OutOfMemory(
                f"{size} bytes need a segment of {wanted}; {self.reserved.now} of "
                f"{self._capacity} bytes are reserved, {self.allocated.now} allocated"
            )
        block = Block(pool, self._end, wanted)
        self._segments[block.address] = block
        self._end += wanted
        self.reserved.add(wanted)
        return block

    def _full(self, wanted: int) -> bool:
        return self._capacity is not None and self.reserved.now + wanted > self._capacity

    def _release(self) -> None:
        """Give back every segment that is one free block."""
        for block in list(self._segments.values()):
            if block.free and block.after is None:
                block.pool.remove(block)
                del self._segments[block.address]
                self.reserved.add(-block.size)


def _segment_size(size: int) -> int:
    if size <= SMALL:
        return SMALL_SEGMENT
    return MEDIUM_SEGMENT if size < MEDIUM else -(-size // LARGE_GRAIN) * LARGE_GRAIN


def _split(block: Block, size: int) -> Block:
    """Cut `block` down to `size` bytes; return the rest, free, as its next neighbour."""
    rest = Block(block.pool, block.address + size, block.size - size, 0, block, block.after)
    if rest.after is not None:
        rest.after.before = rest
    block.after, block.size = rest, size
    return rest


def _absorb_next(block: Block) -> None:
    """Join `block` with its next neighbour; the first of the two stays."""
    following = block.after
    assert following is not None
    block.size += following.size
    block.after = following.after
    if block.after is not None:
        block.after.before = block
