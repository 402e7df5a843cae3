import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sketchbench.measure.caching_allocator import (
    GRAIN,
    MIB,
    CachingAllocator,
    OutOfMemory,
    simulate,
)

KIB = 1024
sizes = st.one_of(
    st.integers(1, 4 * KIB),
    st.sampled_from([MIB - 1, MIB, MIB + 1, 2 * MIB, 10 * MIB - 512, 10 * MIB - 1, 10 * MIB]),
    st.integers(MIB // 2, 45 * MIB),
)
steps = st.lists(st.one_of(sizes, st.integers(-40, -1)), max_size=60)  # < 0: frees one of them


def replayed(steps):
    """Turn steps into events; a negative step frees one of the blocks that are alive."""
    events, alive = [], []
    for name, step in enumerate(steps):
        if step > 0:
            alive.append((name, step))
            events.append((name, step))
        elif alive:
            freed, size = alive.pop(step % len(alive))
            events.append((freed, -size))
    return events


def plain(events):
    """The documented rules on plain lists, searched from end to end: what `simulate` must say."""
    segments, where, now, peaks = [], {}, [0, 0, 0], [0, 0, 0]  # a segment: [small, blocks]
    for name, size in events:
        if size > 0:
            rounded = -(-size // 512) * 512
            small = rounded <= MIB
            fits = [
                (block[0], s, b)
                for s, (kind, blocks) in enumerate(segments)
                for b, block in enumerate(blocks)
                if kind == small and block[1] is None and block[0] >= rounded
            ]
            if not fits:
                big = -(-rounded // (2 * MIB)) * 2 * MIB if rounded >= 10 * MIB else 20 * MIB
                segments.append((small, [[2 * MIB if small else big, None]]))
                now[2] += segments[-1][1][0][0]
                fits = [(0, len(segments) - 1, 0)]
            _, s, b = min(fits)
            blocks = segments[s][1]
            rest = blocks[b][0] - rounded
            if rest >= 512 if small else rest > MIB:
                blocks[b][0] = rounded
                blocks.insert(b + 1, [rest, None])
            blocks[b][1] = name
            where[name] = (s, size)
            now[0] += size
            now[1] += blocks[b][0]
        else:
            s, size = where.pop(name)
            blocks = segments[s][1]
            b = next(i for i, block in enumerate(blocks) if block[1] == name)
            now[0] -= size
            now[1] -= blocks[b][0]
            blocks[b][1] = None
            for i in (b, b - 1):
                if 0 <= i < len(blocks) - 1 and blocks[i][1] is None and blocks[i + 1][1] is None:
                    blocks[i][0] += blocks.pop(i + 1)[0]
        peaks = [max(pair) for pair in zip(peaks, now, strict=True)]
    return tuple(peaks)


# ---------------------------------------------------------------- traced by hand


@pytest.mark.parametrize(
    ("size", "allocated", "reserved"),
    [
        (1, 512, 2 * MIB),
        (512, 512, 2 * MIB),
        (513, 1024, 2 * MIB),
        (MIB, MIB, 2 * MIB),  # the largest of the small pool
        (MIB + 1, MIB + 512, 20 * MIB),
        (10 * MIB - 512, 10 * MIB - 512, 20 * MIB),
        (10 * MIB - 511, 10 * MIB, 10 * MIB),  # 10 MiB once rounded
        (10 * MIB + 1, 10 * MIB + 512, 12 * MIB),  # a rest of 2 MiB - 512 is split off
        (11 * MIB, 12 * MIB, 12 * MIB),  # a rest of 1 MiB is not
        (11 * MIB - 1, 12 * MIB, 12 * MIB),
        (11 * MIB - 512, 11 * MIB - 512, 12 * MIB),  # one of 1 MiB + 512 is
    ],
)
def test_one_block_takes_what_the_rules_say(size, allocated, reserved):
    assert simulate([("x", size)]) == (size, allocated, reserved)


def test_a_small_rest_of_a_shared_segment_stays_with_its_block():
    # 20 MiB: 9 + 9 leave 2; 1.5 of it would leave 0.5, which is not split off
    events = [("a", 9 * MIB), ("b", 9 * MIB), ("c", 3 * MIB // 2)]
    assert simulate(events) == (19 * MIB + MIB // 2, 20 * MIB, 20 * MIB)


def test_small_and_large_blocks_do_not_share_segments():
    assert simulate([("a", 2 * MIB), ("b", 512)]).reserved_peak == 22 * MIB


def test_the_smallest_free_block_that_fits_is_taken():
    allocator = CachingAllocator()
    wide, between, narrow, last = (allocator.allocate(size) for size in (4096, 512, 1024, 512))
    at = narrow.address
    allocator.free(wide)
    allocator.free(narrow)
    assert allocator.allocate(1000).address == at
    assert allocator.allocate(1000).address == 0
    assert between.address == 4096
    assert last.address == at + 1024


def test_of_equal_blocks_the_lowest_address_is_taken():
    allocator = CachingAllocator()
    blocks = [allocator.allocate(1024) for _ in range(4)]
    allocator.free(blocks[2])
    allocator.free(blocks[0])
    assert allocator.allocate(1024).address == 0


def test_a_freed_block_merges_with_both_neighbours():
    allocator = CachingAllocator()
    a, b, c = (allocator.allocate(MIB // 2) for _ in range(3))
    for block in (a, c, b):
        allocator.free(block)
    assert [[block.size for block in segment] for segment in allocator.segments()] == [[2 * MIB]]


def test_fragments_make_a_peak_that_frees_cannot_take_back():
    # four quarters of a small segment, every other one freed: half a segment, of no use for 1 MiB
    events = [(name, MIB // 2) for name in "abcd"] + [("a", -MIB // 2), ("c", -MIB // 2)]
    assert simulate([*events, ("e", MIB)]) == (2 * MIB, 2 * MIB, 4 * MIB)


def test_a_resize_is_a_free_and_an_allocation():
    events = [("x", 600), ("x", -600), ("x", 2000), ("x", -2000)]
    assert simulate(events) == (2000, 2048, 2 * MIB)


def test_no_events_and_no_bytes_reserve_nothing():
    assert simulate([]) == (0, 0, 0)
    assert simulate([("x", 0), ("x", 0)]) == (0, 0, 0)


# ---------------------------------------------------------------- a device that is full


def test_a_full_device_gets_free_segments_back_first():
    events = [("a", 20 * MIB), ("a", -20 * MIB), ("b", 22 * MIB)]
    assert simulate(events, capacity=22 * MIB) == (22 * MIB, 22 * MIB, 22 * MIB)
    assert simulate(events).reserved_peak == 42 * MIB


def test_a_segment_in_part_use_is_not_given_back():
    events = [("a", 4 * MIB), ("b", 4 * MIB), ("a", -4 * MIB), ("c", 18 * MIB)]
    said = (
        "event 3: 18874368 bytes need a segment of 18874368; 20971520 of 31457280 bytes are "
        "reserved, 4194304 allocated"
    )
    with pytest.raises(OutOfMemory, match=f"^{said}$"):
        simulate(events, capacity=30 * MIB)


def test_small_segments_too_are_given_back():
    events = [("a", 1), ("a", -1), ("b", 10 * MIB)]
    assert simulate(events, capacity=10 * MIB).reserved_peak == 10 * MIB


# ---------------------------------------------------------------- what makes no sense


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([("x", 1), ("x", 1)], "event 1: block 'x' is allocated already"),
        ([("x", -1)], "event 0: block 'x' is freed, but not allocated"),
        ([("x", 1), ("x", -1), ("x", -1)], "event 2: block 'x' is freed, but not allocated"),
        ([(7, 1), (7, -2)], "event 1: block 7 is freed with 2 bytes; it was allocated with 1"),
    ],
)
def test_events_that_make_no_sense_are_named(events, said):
    with pytest.raises(ValueError, match=f"^{said}$"):
        simulate(events)


# ---------------------------------------------------------------- laws


@given(steps)
def test_it_agrees_with_the_rules_on_plain_lists(steps):
    events = replayed(steps)
    assert simulate(events) == plain(events)


@given(steps)
def test_requested_is_at_most_allocated_is_at_most_reserved(steps):
    requested, allocated, reserved = simulate(replayed(steps))
    assert requested <= allocated <= reserved


@given(steps)
def test_blocks_tile_their_segments_and_the_counters_add_up(steps):
    allocator, alive = CachingAllocator(), {}
    for name, size in replayed(steps):
        if size > 0:
            alive[name] = allocator.allocate(size)
        else:
            allocator.free(alive.pop(name))
        blocks = [block for segment in allocator.segments() for block in segment]
        used = [block for block in blocks if not block.free]
        assert sorted(map(id, used)) == sorted(map(id, alive.values()))
        assert sum(block.requested for block in used) == allocator.requested.now
        assert sum(block.size for block in used) == allocator.allocated.now
        assert sum(block.size for block in blocks) == allocator.reserved.now
        assert all(block.requested <= block.size and block.size % GRAIN == 0 for block in used)
        for segment in allocator.segments():
            for left, right in itertools.pairwise(segment):
                assert left.address + left.size == right.address
                assert right.before is left
                assert not (left.free and right.free)


@given(steps)
def test_freeing_everything_leaves_whole_segments(steps):
    allocator = CachingAllocator()
    blocks = [allocator.allocate(abs(step)) for step in steps]
    reserved = allocator.reserved.now
    for block in blocks[::2] + blocks[1::2]:
        allocator.free(block)
    assert all(len(segment) == 1 for segment in allocator.segments())
    assert (allocator.requested.now, allocator.allocated.now) == (0, 0)
    assert allocator.reserved.now == reserved


@given(steps)
def test_a_capacity_that_suffices_changes_nothing(steps):
    events = replayed(steps)
    free = simulate(events)
    assert simulate(events, capacity=free.reserved_peak) == free


@given(steps, st.integers(0, 60 * MIB))
def test_a_capacity_is_never_exceeded(steps, capacity):
    allocator, alive = CachingAllocator(capacity), {}
    for name, size in replayed(steps):
        if size < 0:
            if name in alive:
                allocator.free(alive.pop(name))
            continue
        try:
            alive[name] = allocator.allocate(size)
        except OutOfMemory:  # nothing was left to give back
            assert not any(len(blocks) == 1 and blocks[0].free for blocks in allocator.segments())
        assert allocator.reserved.now <= capacity
