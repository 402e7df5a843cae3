"""Merging and cutting lose nothing, and give back what they were given."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sketchbench.preconditioning import layout, merged
from sketchbench.preconditioning.shapes import folded, unfolded

shapes = st.lists(st.integers(1, 7), max_size=4).map(tuple)


@pytest.mark.parametrize(
    ("shape", "limit", "expected"),
    [
        ((64, 32, 3, 3), 1024, (64, 288)),
        ((512, 512, 3, 3), 1024, (512, 512, 9)),
        ((24, 16), 1024, (24, 16)),  # a matrix stays one, however small
        ((1, 5, 1, 3), 1024, (5, 3)),
        ((1, 5), 1024, (5,)),
        ((), 1024, ()),
        ((4, 3, 2), 0, (4, 3, 2)),
        ((2, 2, 2), 4, (4, 2)),  # of equal products the first
    ],
)
def test_the_smallest_neighbours_merge_first_and_two_axes_remain(shape, limit, expected):
    assert merged(shape, limit) == expected


@given(shapes, st.integers(0, 40))
def test_merging_keeps_the_entries_and_their_order(shape, limit):
    found = merged(shape, limit)
    assert math.prod(found) == math.prod(shape)
    assert 1 not in found
    assert len(found) <= 2 or all(a * b > limit for a, b in pairwise(found))


@given(shapes, st.one_of(st.none(), st.integers(1, 4)), st.integers(1, 3))
@settings(deadline=None, max_examples=60)
def test_tiles_cover_every_entry_once(shape, block_size, batch):
    form = layout(shape, 0, block_size, None)
    if not form.tiles:
        assert len(form.merged) < 2
        return
    tensor = torch.arange(batch * math.prod(form.merged)).reshape(batch, *form.merged)
    again = torch.full_like(tensor, -1)
    for tile in form.tiles:
        blocks = tile.cut(tensor)
        assert blocks.shape == (batch * tile.blocks, *tile.sizes)
        assert block_size is None or max(tile.sizes) <= block_size
        tile.paste(blocks, again)
    assert torch.equal(again, tensor)
    assert sum(t.blocks * math.prod(t.sizes) for t in form.tiles) == math.prod(form.merged)


def test_blocks_are_the_blocks_of_the_matrix():
    matrix = torch.arange(35).reshape(1, 5, 7)
    full, right, below, corner = layout((5, 7), 0, 3, None).tiles
    assert torch.equal(full.cut(matrix)[1], matrix[0, :3, 3:6])
    assert torch.equal(right.cut(matrix)[0], matrix[0, :3, 6:])
    assert torch.equal(below.cut(matrix)[1], matrix[0, 3:, 3:6])
    assert torch.equal(corner.cut(matrix)[0], matrix[0, 3:, 6:])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_unfolding_puts_an_axis_first_and_folding_puts_it_back(axis):
    tensor = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    matrix = unfolded(tensor, axis)
    assert matrix.shape == (2, tensor.shape[axis + 1], 60 // tensor.shape[axis + 1])
    assert torch.equal(matrix[1, 2], tensor[1].select(axis, 2).flatten())
    assert torch.equal(folded(matrix, axis, (3, 4, 5)), tensor)


@pytest.mark.parametrize(
    ("shape", "block_size", "max_dim"),
    [((), 4, 9), ((7,), 4, 9), ((0, 3), 4, 9), ((10, 2), None, 9)],
)
def test_vectors_and_what_is_too_large_have_no_tiles(shape, block_size, max_dim):
    assert layout(shape, 1024, block_size, max_dim).tiles == ()


def test_the_limit_is_of_a_blocks_axis():
    assert layout((10, 2), 1024, 5, 9).tiles


def test_the_exponent_is_minus_one_over_twice_the_order():
    assert layout((3, 4), 0, None, None).exponent == -1 / 4
    assert layout((3, 4, 5), 0, None, None).exponent == -1 / 6
