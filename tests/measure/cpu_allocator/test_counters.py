import threading

import numpy as np
import pytest
import torch
from torch import nn

# ---------------------------------------------------------------- the numbers


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.complex128])
@pytest.mark.parametrize("count", [1, 3, 1000, 2**20 + 1])
def test_a_tensor_counts_with_exactly_its_bytes(counters, dtype, count):
    before = counters.current()
    tensor = torch.empty(count, dtype=dtype)
    assert counters.current() - before == count * dtype.itemsize
    del tensor
    assert counters.current() == before


def test_views_and_no_elements_cost_nothing(counters):
    tensor = torch.empty(8, 8)
    before = counters.current()
    kept = [tensor.T, tensor[1:], tensor.view(-1), torch.empty(0), torch.empty(3, 0)]
    assert counters.current() == before
    assert len(kept) == 5


def test_the_peak_survives_frees_and_can_be_reset(counters):
    before = counters.current()
    counters.reset_peak()
    assert counters.peak() == before
    first = torch.empty(1000, dtype=torch.uint8)
    second = torch.empty(500, dtype=torch.uint8)
    del first
    third = torch.empty(700, dtype=torch.uint8)
    assert (counters.current(), counters.peak()) == (before + 1200, before + 1500)
    counters.reset_peak()
    assert counters.peak() == before + 1200
    del second, third
    assert (counters.current(), counters.peak()) == (before, before + 1200)


def test_a_resize_holds_both_sizes_while_it_copies(counters):
    tensor = torch.empty(100, dtype=torch.uint8)
    before = counters.current()
    counters.reset_peak()
    tensor.untyped_storage().resize_(1000)
    assert counters.current() == before + 900
    assert counters.peak() == before + 1000
    tensor.untyped_storage().resize_(0)
    assert counters.current() == before - 100


def test_an_addition_peaks_at_its_result(counters):
    a, b = torch.rand(100_000), torch.rand(100_000)
    before = counters.current()
    counters.reset_peak()
    total = (a + b) + a
    assert counters.peak() == before + 800_000
    assert counters.current() == before + total.nbytes


def test_many_threads_at_once_lose_no_byte(counters):
    threads, rounds, kept = 8, 2000, [[] for _ in range(8)]
    before = counters.current()
    counters.reset_peak()
    barrier = threading.Barrier(threads)

    def work(mine):
        barrier.wait()
        for size in range(1, rounds + 1):
            tensor = torch.empty(size, dtype=torch.uint8)
            if size % 10 == 0:
                mine.append(tensor)

    workers = [threading.Thread(target=work, args=(mine,)) for mine in kept]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    alive = sum(tensor.nbytes for mine in kept for tensor in mine)
    assert alive == threads * sum(range(10, rounds + 1, 10))
    assert counters.current() - before == alive
    most = alive + threads * (rounds - 1)
    assert before + alive <= counters.peak() <= before + most
    kept.clear()
    assert counters.current() == before


def test_blocks_are_freed_by_other_threads_too(counters):
    before, held = counters.current(), [torch.empty(1000)]
    worker = threading.Thread(target=held.clear)
    worker.start()
    worker.join()
    assert counters.current() == before


# ---------------------------------------------------------------- what only an allocator sees


@pytest.mark.parametrize(
    ("name", "shape"), [("qr", (2000, 200)), ("svd", (400, 200)), ("lstsq", (400, 200))]
)
def test_lapack_needs_more_than_its_results(counters, name, shape):
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    arguments = (matrix, matrix[:, :3]) if name == "lstsq" else (matrix,)
    before = counters.current()
    counters.reset_peak()
    results = getattr(torch.linalg, name)(*arguments)
    outputs = sum(result.untyped_storage().nbytes() for result in results)
    assert counters.current() - before == outputs
    assert counters.peak() - before > outputs


def test_a_convolution_step_needs_scratch_that_no_operation_returns(counters):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3))
    inputs = torch.rand(8, 3, 32, 32)
    with torch.no_grad():
        first = model[2](model[1](model[0](inputs)))
        before = counters.current()
        counters.reset_peak()
        second = model[3](first)
    assert counters.current() - before == second.nbytes
    assert counters.peak() - before > second.nbytes
    model(inputs).square().mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


# ---------------------------------------------------------------- memory of another kind


def test_memory_of_others_is_not_counted(counters):
    array = np.zeros(1000)
    before = counters.current()
    kept = [torch.from_numpy(array), torch.frombuffer(bytearray(4000), dtype=torch.uint8)]
    assert counters.current() == before
    kept.clear()
    assert counters.current() == before


def test_shared_memory_leaves_the_allocator(counters):
    before = counters.current()
    tensor = torch.ones(1000)
    tensor.share_memory_()
    assert counters.current() == before
    assert tensor.sum() == 1000
    del tensor
    assert counters.current() == before


def test_copy_on_write_makes_its_block_when_it_is_written(counters):
    tensor = torch.ones(1000)
    before = counters.current()
    clone = torch._lazy_clone(tensor)
    assert counters.current() == before
    clone.add_(1)
    assert counters.current() == before + 4000
    assert (tensor.sum(), clone.sum()) == (1000, 2000)
    del tensor, clone
    assert counters.current() == before - 4000


def test_saving_copying_and_loading_work_as_ever(counters, tmp_path):
    before = counters.current()
    tensor = torch.arange(1000)
    torch.save(tensor, tmp_path / "tensor.pt")
    loaded = torch.load(tmp_path / "tensor.pt")
    mapped = torch.load(tmp_path / "tensor.pt", mmap=True)
    assert torch.equal(loaded, tensor)
    assert torch.equal(mapped, tensor)
    assert torch.equal(torch.tensor(tensor.tolist()), tensor.clone())
    del tensor, loaded, mapped
    assert counters.current() == before
