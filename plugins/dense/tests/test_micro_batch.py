"""Micro-batches add up to the batch."""

import copy

import pytest
import torch
from pydantic import ValidationError
from sketchbench_dense import MicroBatch
from sketchbench_dense.micro_batch import fitting_rows, saved_bytes
from torch import Generator, nn
from torch.nn import functional as F

from sketchbench import Skip
from sketchbench.autodiff import Plain


def perceptron(dtype=torch.float64):
    torch.manual_seed(0)
    layers = (nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    return nn.Sequential(*layers).to(dtype)


def batch(rows, dtype=torch.float64):
    rng = Generator().manual_seed(1)
    return torch.randn(rows, 6, generator=rng).to(dtype), torch.randint(3, (rows,), generator=rng)


@pytest.mark.parametrize("rows", [1, 3, 4, 8, 11, 100])
@pytest.mark.parametrize("checkpoint", [None, 1, 2])
def test_gradient_is_that_of_the_whole_batch(rows, checkpoint):
    model, twin = perceptron(), perceptron()
    inputs, targets = batch(11)  # 11 = 3 + 3 + 3 + 2: a mean of means would be wrong
    recipe = MicroBatch(rows=rows, checkpoint=checkpoint)
    loss = recipe.build(model, 11, Generator()).accumulate(inputs, targets, F.cross_entropy)
    expected = Plain(twin).accumulate(inputs, targets, F.cross_entropy)
    torch.testing.assert_close(loss, expected, rtol=1e-15, atol=0)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=0, atol=1e-15)  # 11 sums of |g| < 1


def test_one_micro_batch_is_exact_to_the_bit():
    model, twin = perceptron(torch.float32), perceptron(torch.float32)
    data = batch(8, torch.float32)
    MicroBatch(rows=8).build(model, 8, Generator()).accumulate(*data, F.cross_entropy)
    Plain(twin).accumulate(*data, F.cross_entropy)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_loss_has_the_precision_of_its_parts(dtype):
    sketched = MicroBatch(rows=3).build(perceptron(dtype), 8, Generator())
    assert sketched.accumulate(*batch(8, dtype), F.cross_entropy).dtype == dtype


def test_checkpoint_counts_the_blocks_of_a_segment():
    """Kept are the six ReLUs' outputs; or each segment's input but the batch, and the loss's."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(32, 32), nn.ReLU()) for _ in range(6)))
    data, row_bytes = (torch.randn(10, 32), torch.randn(10, 32)), 4 * 10 * 32

    def kept(checkpoint):
        sketched = MicroBatch(rows=10, checkpoint=checkpoint).build(model, 10, Generator())
        return saved_bytes(sketched.model, *data, F.mse_loss) // row_bytes

    assert [kept(every) for every in (None, 1, 2, 3)] == [6, 5 + 1, 2 + 1, 1 + 1]


@pytest.mark.parametrize("checkpoint", [True, 0])
def test_checkpoint_is_a_count(checkpoint):
    with pytest.raises(ValidationError, match="checkpoint"):
        MicroBatch(rows=2, checkpoint=checkpoint)


def test_saved_bytes_count_storages_once_without_parameters_and_batch():
    """Tanh's output is kept by it and the next layer: once. The batch and W: not at all."""
    inputs, targets = batch(10, torch.float32)
    model = perceptron(torch.float32)
    hidden = 2 * 10 * 16 * 4  # the outputs of tanh and ReLU
    losses = 10 * 3 * 4 + 4  # log-softmax, and the total weight of the rows
    assert saved_bytes(model, inputs, targets, F.cross_entropy) == hidden + losses


def test_bytes_take_as_many_rows_as_fit():
    inputs, targets = batch(64, torch.float32)
    model = perceptron(torch.float32)
    row = (2 * 16 + 3) * 4
    for budget, expected in ((row + 4, 1), (10 * row + 3, 9), (10 * row + 4, 10), (10**9, 64)):
        assert fitting_rows(model, inputs, targets, F.cross_entropy, budget) == expected


def test_bytes_hold_where_growth_is_not_linear():
    """Attention keeps n² entries: the line through one and two rows promises too many."""

    class Attention(nn.Module):
        def forward(self, x):
            return (x @ x.mT).softmax(-1) @ x

    model = nn.Sequential(nn.Linear(6, 3), Attention())
    inputs, targets = batch(64, torch.float32)

    def kept(rows):
        return saved_bytes(model, inputs[:rows], targets[:rows], F.cross_entropy)

    assert fitting_rows(model, inputs, targets, F.cross_entropy, kept(20)) == 20
    assert fitting_rows(model, inputs, targets, F.cross_entropy, kept(20) - 1) == 19


def test_measuring_disturbs_neither_gradients_nor_random_state():
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 3))
    inputs, targets = batch(16, torch.float32)
    before, weights = torch.get_rng_state(), copy.deepcopy(model.state_dict())
    fitting_rows(model, inputs, targets, F.cross_entropy, 500)
    assert torch.equal(before, torch.get_rng_state())
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_a_budget_below_one_row_is_skipped():
    sketched = MicroBatch(bytes=10).build(perceptron(), 8, Generator())
    with pytest.raises(Skip, match=r"one row keeps 2\d\d bytes, more than bytes=10"):
        sketched.accumulate(*batch(8), F.cross_entropy)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(6), nn.BatchNorm1d(6, track_running_stats=False)])
def test_batch_normalisation_is_refused(norm):
    with pytest.raises(Skip, match=r"'0' \(BatchNorm1d\) keeps statistics of whole batches"):
        MicroBatch(rows=2).build(nn.Sequential(norm), 8, Generator())


def test_layer_normalisation_is_not_refused():
    MicroBatch(rows=2).build(nn.Sequential(nn.LayerNorm(6)), 8, Generator())


@pytest.mark.parametrize("sizes", [{}, {"rows": 2, "bytes": 100}])
def test_exactly_one_size_is_asked_for(sizes):
    with pytest.raises(ValidationError, match="one of 'rows' and 'bytes'"):
        MicroBatch(**sizes)
