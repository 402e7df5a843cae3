"""Top-k: the largest entries come back, and bytes are those of entries and positions."""

import pytest
import torch
from pydantic import ValidationError
from sketchbench_tri_sketch import TopK
from sketchbench_tri_sketch.probe import reconstruction
from sketchbench_tri_sketch.top_k import index_type
from torch import Generator


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=Generator().manual_seed(seed), dtype=torch.float64)


def reading_of(width=20, **fields):
    return TopK(**fields).reading(width, 4, 8, Generator())


def test_the_largest_entries_of_each_row_come_back():
    matrix = normal(8, 20)
    least = matrix.abs().sort(dim=1, descending=True).values[:, 4:5]
    expected = torch.where(matrix.abs() >= least, matrix, 0)
    assert torch.equal(reconstruction(reading_of(count=5), matrix), expected)
    assert torch.equal(reconstruction(reading_of(fraction=0.25), matrix), expected)


@pytest.mark.parametrize("fields", [{"fraction": 1.0}, {"count": 20}, {"count": 500}])
def test_all_entries_are_exact(fields):
    assert torch.equal(reconstruction(reading_of(**fields), normal(8, 20)), normal(8, 20))


def test_sparse_rows_are_exact():
    matrix = torch.zeros(8, 20)
    matrix[:, 3], matrix[:, 19] = 2.0, -1.0
    assert torch.equal(reconstruction(reading_of(count=3), matrix), matrix)


@pytest.mark.parametrize(
    ("width", "dtype"),
    [(256, torch.uint8), (257, torch.int16), (2**15, torch.int16), (2**15 + 1, torch.int32)],
)
def test_positions_have_the_narrowest_type(width, dtype):
    assert index_type(width) is dtype
    matrix = torch.zeros(2, width)
    matrix[:, -1] = 3.0
    kept, _ = reading_of(width, count=2).keep(matrix, None, update=True)
    assert sum(each.nbytes for each in kept) == 2 * 2 * (4 + dtype.itemsize)
    assert torch.equal(reconstruction(reading_of(width, count=2), matrix), matrix)


def test_half_precision_is_kept_as_it_is():
    kept, note = reading_of(count=3).keep(normal(8, 20).bfloat16(), None, update=True)
    assert kept[0].dtype is torch.bfloat16
    assert reading_of(count=3).gradient(torch.ones(8, 4), kept, note).dtype is torch.float32


def test_it_claims_to_save_memory_only_where_it_does():
    assert TopK(fraction=0.1).break_even(64) == 1
    assert TopK(fraction=0.8).break_even(64) is None


def test_a_share_of_nothing_is_refused():
    with pytest.raises(ValidationError, match="fraction"):
        TopK(fraction=0.0)


def test_values_of_a_narrower_model_are_kept_in_float32():
    model = torch.nn.Sequential(torch.nn.Linear(20, 4)).bfloat16()
    net, seen = TopK(count=5).build(model, 8, Generator()).model, []
    keep = net[0].reading.keep
    net[0].reading.keep = lambda *args: seen.append(keep(*args)) or seen[-1]
    net(normal(8, 20).bfloat16()).sum().backward()
    assert seen[0][0][0].dtype == torch.float32
