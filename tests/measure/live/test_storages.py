import pytest
import torch
from torch import nn

FLOAT, LONG = 4, 8
N = 1000


class Pair(torch.Tensor):
    """A tensor that is the sum of two."""

    @staticmethod
    def __new__(cls, a, b):
        return torch.Tensor._make_wrapper_subclass(cls, a.shape, dtype=a.dtype)

    def __init__(self, a, b):
        self.a, self.b = a, b

    def __tensor_flatten__(self):
        return ["a", "b"], None

    @staticmethod
    def __tensor_unflatten__(inner, meta, size, stride):
        return Pair(inner["a"], inner["b"])

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        both = [[getattr(x, name) if isinstance(x, Pair) else x for x in args] for name in "ab"]
        if func is torch.ops.aten.exp.default:
            total = torch.exp(both[0][0] + both[1][0])
            return Pair(total, torch.zeros_like(total))
        return Pair(*(func(*each, **(kwargs or {})) for each in both))


def both(usage, work, **watched):
    """Return the footprint, having seen that the allocator agrees to the byte."""
    found = usage(work, **watched)
    assert found.requested_peak == found.footprint.peak
    return found.footprint


def test_views_and_work_in_place_add_nothing(usage):
    def work():
        x = torch.zeros(N, N)
        y = x.view(-1)[::2].unsqueeze(0).expand(3, -1)
        x.neg_().t().relu_()
        return x[2:5].detach(), y

    assert both(usage, work).peak == N * N * FLOAT


def test_resize_of_a_tensor_counts_the_difference(usage):
    def work():
        x = torch.zeros(N)
        x.resize_(3 * N)  # the old block is alive until its values are copied
        return x

    assert usage(work).footprint.peak == 3 * N * FLOAT


def test_a_storage_that_is_emptied_counts_no_longer(usage):
    def work():
        x = torch.zeros(N)
        x.untyped_storage().resize_(0)
        y = torch.zeros(N)
        y.untyped_storage().resize_(0)
        y.untyped_storage().resize_(2 * N * FLOAT)
        return x, y

    footprint = both(usage, work)
    assert footprint.peak == 2 * N * FLOAT
    assert sum(change for _, change in footprint.events) == 2 * N * FLOAT


def test_an_external_storage_that_is_emptied_counts_until_then(footprint):
    x = torch.zeros(N)

    def work():
        y = x + 1
        x.untyped_storage().resize_(0)
        return y, torch.zeros(N)

    found = footprint(work)
    assert (found.start, found.peak) == (N * FLOAT, 2 * N * FLOAT)


def test_sparse_tensors_count_their_indices_and_values(usage):
    def coordinates():
        indices = torch.zeros(2, N, dtype=torch.int64)
        return torch.sparse_coo_tensor(indices, torch.ones(N), (N, N), check_invariants=False)

    found = usage(coordinates)
    assert found.footprint.peak == 2 * N * LONG + N * FLOAT
    assert 0 <= found.requested_peak - found.footprint.peak <= 64


def test_sparse_tensors_from_before_are_external(footprint):
    coordinates = torch.eye(N).to_sparse()
    found = footprint(lambda: coordinates * 2)
    assert found.start == 2 * N * LONG + N * FLOAT
    rows, columns, values = torch.arange(N + 1), torch.arange(N), torch.ones(N)
    compressed = torch.sparse_csr_tensor(rows, columns, values, (N, N), check_invariants=False)
    found = footprint(lambda: compressed * 2)
    assert found.start == (N + 1) * LONG + N * LONG + N * FLOAT
    found = footprint(lambda: None, inputs=(compressed, values))
    assert found.start == (N + 1) * LONG + N * LONG + N * FLOAT


def test_a_product_with_a_sparse_matrix_counts_its_factors_and_itself(usage):
    sparse, x = torch.eye(N).to_sparse(), torch.randn(N, 8)
    found = usage(lambda: sparse @ x, inputs=(sparse, x))
    assert found.footprint.peak == N * (2 * LONG + FLOAT) + 2 * N * 8 * FLOAT
    assert found.requested_peak >= found.footprint.peak


def test_zeros_without_memory_count_nothing(usage):
    assert both(usage, lambda: torch._efficientzerotensor((N, N))).peak == 0


def test_wrapper_subclasses_count_what_is_in_them_and_what_they_do_inside(usage):
    def work():
        return torch.exp(Pair(torch.zeros(N), torch.zeros(N)))

    # The two inside, their sum, and its exponential.
    assert both(usage, work).peak == 4 * N * FLOAT


def test_a_wrapper_subclass_from_before_is_external(footprint):
    pair = Pair(torch.zeros(N), torch.zeros(N))
    found = footprint(lambda: pair + 1)
    assert (found.start, found.peak) == (2 * N * FLOAT, 4 * N * FLOAT)


def test_constants_are_born_where_they_are_made(footprint):
    found = footprint(lambda: torch.tensor([1.0] * N) + 1)
    assert (found.start, found.peak) == (0, 2 * N * FLOAT)


def test_what_the_region_reads_was_there_from_its_beginning(footprint):
    read, untouched = torch.zeros(N), torch.zeros(N)

    def work():
        first = torch.ones(10)
        return first, read * 2

    found = footprint(work)
    assert found.start == read.nbytes
    assert found.at_peak["external"] == read.nbytes
    assert found.peak == read.nbytes * 2 + 10 * FLOAT
    del untouched


def test_what_is_only_viewed_is_not_born(footprint):
    before = torch.zeros(N)
    found = footprint(lambda: (before[3:], before.view(10, -1), before.detach()))
    assert (found.start, found.peak) == (N * FLOAT, N * FLOAT)
    assert set(found.at_peak) == {"external"}


def test_external_storages_that_die_make_room(footprint):
    held = [torch.zeros(N)]

    def work():
        held[0].sum().item()
        held.clear()
        return torch.zeros(N)

    assert footprint(work).peak == N * FLOAT + FLOAT


def test_inputs_that_are_views_count_their_whole_storage_once(footprint):
    big = torch.zeros(10, N)
    found = footprint(lambda: None, inputs=(big[0], big[1:3].t()))
    assert dict(found.at_peak) == {"inputs": 10 * N * FLOAT}


def test_tensors_of_another_device_are_not_counted(footprint):
    model = nn.Linear(10, 10, device="meta")

    def work():
        elsewhere = torch.zeros(N, device="meta") + 1
        return elsewhere, model(torch.zeros(3, 10, device="meta")), torch.zeros(7)

    assert footprint(work, model).peak == 7 * FLOAT
    only = footprint(work, model, device=torch.device("meta"))
    assert only.at_peak["parameters"] == 110 * FLOAT
    assert only.peak == (110 + 2 * N) * FLOAT


@pytest.mark.parametrize("copies", [1, 2])
def test_a_copied_module_is_born(footprint, copies):
    import copy

    layer = nn.Linear(10, 10)
    found = footprint(lambda: [copy.deepcopy(layer) for _ in range(copies)], layer)
    assert found.peak == (1 + copies) * 110 * FLOAT
