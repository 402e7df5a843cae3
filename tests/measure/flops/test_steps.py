import itertools

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sketchbench.measure.flops import FlopCount


def test_a_step_of_a_perceptron_counts_by_hand(count, rand):
    batch, sizes = 16, (12, 20, 5)
    model = nn.Sequential(nn.Linear(12, 20), nn.ReLU(), nn.Linear(20, 5))
    optimizer = torch.optim.Adam(model.parameters())
    x, y = torch.rand(batch, 12), torch.randint(5, (batch,))

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    forward = [2 * batch * a * b for a, b in itertools.pairwise(sizes)]
    reading = count(step)
    assert reading.by_op == {"addmm": sum(forward), "mm": sum(forward) + forward[1]}
    assert reading.total == sum(reading.by_op.values())
    assert reading.missing == ()


class Sketched(torch.autograd.Function):
    """A linear layer whose weight gradient is taken from sketches of inputs and gradients."""

    @staticmethod
    def forward(ctx, x, weight, sketch):
        ctx.save_for_backward(sketch @ x, weight, sketch)
        return x @ weight.T

    @staticmethod
    def backward(ctx, gradient):
        sketched, weight, sketch = ctx.saved_tensors
        return gradient @ weight, (sketch @ gradient).T @ sketched, None


def test_a_custom_function_counts_forward_and_backward(count, rand):
    x, weight = torch.rand(64, 128, requires_grad=True), torch.rand(32, 128, requires_grad=True)
    sketch = torch.rand(16, 64)
    reading = count(lambda: Sketched.apply(x, weight, sketch).sum().backward())
    assert reading == FlopCount(1_507_328, {"mm": 262_144 + 524_288 + 65_536 + 131_072 + 524_288})


def test_recomputed_work_counts_again(count):
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU())
    x = torch.rand(3, 4, requires_grad=True)
    plain = count(lambda: model(x).sum().backward())
    again = count(lambda: checkpoint(model, x, use_reentrant=True).sum().backward())
    assert again.total == plain.total + plain.by_op["addmm"]


def trained(rand, run):
    """Train three steps, each through `run`; return losses and parameters."""
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 16)]
    model = nn.Sequential(*layers, nn.LayerNorm(16), encoder, nn.Linear(16, 4))
    weight = layers[-1].weight  # (16, 288), sketched to (16, 4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    x, y = rand(6, 3, 8, 8, dtype=torch.float32), torch.arange(6) % 4
    sketch = rand(288, 4, dtype=torch.float32)
    losses = []

    def step():
        optimizer.zero_grad()
        q = torch.linalg.qr(weight @ sketch).Q
        values = torch.linalg.svd(q.T @ weight, full_matrices=False).S
        spectrum = torch.fft.rfft(weight).abs()
        loss = nn.functional.cross_entropy(model(x), y) + values.sum() + spectrum.mean()
        loss.backward()
        optimizer.step()
        losses.append(loss)

    for _ in range(3):
        run(step)
    return losses + list(model.parameters())


def test_training_under_the_meter_is_equal_to_the_bit(count, rand):
    readings = []
    plain = trained(rand, lambda step: step())
    metered = trained(rand, lambda step: readings.append(count(step)))
    assert all(map(torch.equal, plain, metered))
    assert readings[0] == readings[1] == readings[2]
    assert readings[0].missing == ()
    assert {"convolution", "linalg_qr", "linalg_svd", "fft_r2c", "bmm"} <= set(readings[0].by_op)
