"""Checkpointing changes what is kept, and nothing else."""

import copy
from contextlib import suppress

import pytest
import torch
from sketchbench_dense import Checkpoint
from sketchbench_dense.checkpoint import checkpointed
from sketchbench_dense.micro_batch import saved_bytes
from torch import Generator, nn
from torch.nn import functional as F

from sketchbench import Skip
from sketchbench.autodiff import Plain


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width, momentum=None),
            nn.InstanceNorm2d(width, track_running_stats=True),
        )

    def forward(self, x):
        return F.relu(x + self.body(x))


def resnet():
    """A stem, four residual blocks with every kind of running statistics, and a head."""
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    head = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    return nn.Sequential(stem, *(Residual(4) for _ in range(4)), head)


def batches(count, rows=8):
    rng = Generator().manual_seed(1)
    for _ in range(count):
        yield torch.randn(rows, 1, 4, 4, generator=rng), torch.randint(3, (rows,), generator=rng)


def trained(sketched, original, steps=4):
    """Train for a few steps from one global seed; return everything that may have moved."""
    torch.manual_seed(7)
    optimizer = torch.optim.SGD(original.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for inputs, targets in batches(steps):
        optimizer.zero_grad()
        losses.append(sketched.accumulate(inputs, targets, F.cross_entropy))
        optimizer.step()
    return {**original.state_dict(), "losses": torch.stack(losses), "rng": torch.get_rng_state()}


@pytest.mark.parametrize("every", [1, 2, 6])
def test_trajectory_statistics_and_random_state_are_exact_to_the_bit(every):
    model, twin = resnet(), resnet()
    sketched = Checkpoint(every=every).build(model, 8, Generator())
    actual, expected = trained(sketched, model), trained(Plain(twin), twin)
    assert actual.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(actual[name], expected[name])]
    assert different == []


def test_a_step_recomputes_every_segment_once():
    model, calls = resnet(), []
    for name in "1234":
        block = model.get_submodule(name)
        block.register_forward_hook(lambda module, *_, name=name: calls.append(name))
    for inputs, targets in batches(1):
        Plain(checkpointed(model, every=3)).accumulate(inputs, targets, F.cross_entropy)
    # the recomputation of a segment stops with its last saved tensor, which is within block 2:
    # after its hook no more than a residual sum is left
    assert calls[:4] == list("1234")
    assert set(calls[4:]) <= set("1234")
    assert all(calls.count(name) <= 2 for name in "1234")
    assert "1" in calls[4:]
    assert "3" in calls[4:]


def test_what_is_kept_is_the_segments_inputs():
    """Kept: each segment's input (the first is the batch itself) and the loss's own tensors."""
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(32, 32), nn.GELU()) for _ in range(6)))
    x, y = torch.randn(10, 32), torch.randn(10, 32)
    row_bytes = 4 * 10 * 32
    # exact: six linear inputs but the batch, six GELU inputs; the loss keeps its input
    assert saved_bytes(model, x, y, F.mse_loss) == (5 + 6 + 1) * row_bytes
    overhead = [saved_bytes(checkpointed(model, n), x, y, F.mse_loss) for n in (1, 2, 3)]
    assert [kept // row_bytes for kept in overhead] == [5 + 1, 2 + 1, 1 + 1]


def test_evaluation_keeps_nothing():
    model = checkpointed(resnet()).eval()
    inputs, _ = next(batches(1))
    with torch.no_grad():
        assert not model(inputs).requires_grad
    assert not model[1].layers.training


def test_dropout_and_statistics_survive_an_interrupted_backward():
    """An error while a segment is recomputed puts the running statistics back."""
    model = resnet()
    sketched = checkpointed(model)
    inputs, targets = next(batches(1))
    loss = F.cross_entropy(sketched(inputs), targets)
    before = copy.deepcopy(dict(model.named_buffers()))

    def broken(*_):
        raise RuntimeError("broken on purpose")

    sketched[2].layers[0].body[1].register_forward_hook(broken)
    with suppress(RuntimeError):
        loss.backward()
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert {id(b) for b in sketched.buffers()} == {id(b) for b in model.buffers()}


def perceptron(normalised):
    torch.manual_seed(0)
    layers = [normalised(nn.Linear(16, 16)) for _ in range(4)]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(16, 3))


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("old", [False, True])
def test_spectral_normalisation_is_exact_to_the_bit(every, old):
    """Its buffers change in the forward, and the output depends on them."""
    normalised = nn.utils.spectral_norm if old else nn.utils.parametrizations.spectral_norm
    model, twin = perceptron(normalised), perceptron(normalised)
    sketched = Checkpoint(every=every).build(model, 8, Generator())
    actual, expected = trained(sketched, model), trained(Plain(twin), twin)
    assert actual.keys() == expected.keys()
    different = [name for name in expected if not torch.equal(actual[name], expected[name])]
    assert different == []


class Gathering(nn.Module):
    """Sums what each layer returns; `layers` are found in one of many ways."""

    def __init__(self, way):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Dropout(0.5)) for _ in "1234")
        )
        self.head = nn.Linear(16, 3)
        self.way = way

    def forward(self, x):
        x = x.flatten(1)
        if self.way == "called":
            return self.head(self.layers(x))
        if self.way == "indexed":
            found = [self.layers[index] for index in range(4)]
        else:
            found = self.layers if self.way == "iterated" else self.layers.children()
        total = 0
        for layer in found:
            x = layer(x)
            total = total + x
        return self.head(total)


@pytest.mark.parametrize("way", ["iterated", "indexed", "children"])
def test_a_model_that_takes_its_sequence_apart_is_skipped(way):
    torch.manual_seed(0)
    model = Gathering(way)
    before, state = copy.deepcopy(dict(model.named_buffers())), torch.get_rng_state()
    sketched = Checkpoint(every=2).build(model, 8, Generator())
    with pytest.raises(Skip, match="Gathering takes its nn.Sequential apart"):
        sketched.accumulate(*next(batches(1)), F.cross_entropy)
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("way", "every"), [("called", 1), ("called", 2), ("iterated", 1)])
def test_a_model_around_a_sequence_is_exact_to_the_bit(way, every):
    """Single blocks without layers between them may be iterated over."""
    torch.manual_seed(0)
    model = Gathering(way)
    twin = copy.deepcopy(model)
    sketched = Checkpoint(every=every).build(model, 8, Generator())
    actual, expected = trained(sketched, model), trained(Plain(twin), twin)
    assert [name for name in expected if not torch.equal(actual[name], expected[name])] == []


def test_a_model_that_does_not_repeat_itself_is_not_skipped():
    class Drawing(Gathering):
        def forward(self, x):
            return super().forward(x) + torch.randn((), generator=rng)

    rng = Generator().manual_seed(0)
    sketched = Checkpoint(every=2).build(Drawing("called"), 8, Generator())
    sketched.accumulate(*next(batches(1)), F.cross_entropy)


def test_a_model_without_blocks_is_skipped():
    with pytest.raises(Skip, match=r"checkpoint: .*nn\.Sequential"):
        Checkpoint().build(nn.Linear(2, 2), 8, Generator())


def test_a_sequence_with_its_own_forward_is_skipped():
    class Looped(nn.Sequential):
        def forward(self, x):
            return super().forward(super().forward(x))

    with pytest.raises(Skip, match="Looped has a forward of its own"):
        Checkpoint().build(Looped(nn.Linear(2, 2)), 8, Generator())


def test_a_layer_that_occurs_twice_stays_in_its_places():
    torch.manual_seed(0)
    relu = nn.ReLU()
    model = nn.Sequential(nn.Linear(4, 4), relu, nn.Linear(4, 4), relu)
    x = torch.randn(3, 4)
    assert torch.equal(checkpointed(model)(x), model(x))
    assert len(checkpointed(model)) == 2
