import gc

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from sketchbench import Watched
from sketchbench.measure import LiveBytes
from sketchbench.measure.storages import state_bytes

FLOAT = 4
CPU = torch.device("cpu")


def test_tied_parameters_count_once(footprint):
    model = nn.Sequential(nn.Linear(9, 9, bias=False), nn.Linear(9, 9, bias=False))
    model[1].weight = model[0].weight
    assert dict(footprint(lambda: None, model).at_peak) == {"parameters": 81 * FLOAT}


def test_frozen_parameters_are_parameters_without_gradients(footprint):
    model = nn.Sequential(nn.Linear(9, 9, bias=False), nn.Linear(9, 9, bias=False))
    model[0].requires_grad_(False)
    found = footprint(lambda: model(torch.ones(1, 9)).sum().backward(), model)
    assert found.at_peak["parameters"] == 2 * 81 * FLOAT
    assert found.highest["gradients"] == 81 * FLOAT + FLOAT


def test_parameters_that_no_loss_reaches_have_no_gradient(footprint):
    model = nn.ModuleList([nn.Linear(9, 9, bias=False), nn.Linear(9, 9, bias=False)])
    found = footprint(lambda: model[0](torch.ones(1, 9)).sum().backward(), model)
    assert found.highest["gradients"] == 81 * FLOAT + FLOAT


def test_lazy_parameters_count_once_they_are_there(footprint):
    model = nn.Sequential(nn.LazyLinear(9, bias=False))
    found = footprint(lambda: model(torch.ones(1, 5)).sum().backward(), model)
    assert found.highest["parameters"] == 45 * FLOAT


def test_buffers_and_what_the_optimizer_counts_have_their_place(footprint):
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
    optimizer = torch.optim.Adam(model.parameters())
    x = torch.randn(8, 4)

    def step():
        optimizer.zero_grad()
        model(x).pow(2).mean().backward()
        optimizer.step()

    step()
    found = footprint(step, model, optimizer, (x,))
    parameters = 4 * 6 + 3 * 6
    assert found.at_peak["buffers"] == 2 * 6 * FLOAT + 8  # means, variances, a count of 8 bytes
    assert found.highest["optimizer_state"] == (2 * parameters + 4) * FLOAT  # and 4 counts of steps
    assert dict(found.state) == {"rest": (2 * parameters + 4) * FLOAT}


def test_state_that_is_made_in_the_step_is_state_from_its_birth(footprint):
    model = nn.Linear(30, 30, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9)

    def step():
        model(torch.ones(1, 30)).sum().backward()
        optimizer.step()

    assert footprint(step, model, optimizer).highest["optimizer_state"] == 900 * FLOAT


class Parts(torch.optim.SGD):
    state_parts = {"momentum_buffer": "momentum", "U": "sketch", "V": "sketch"}


def test_state_is_told_by_its_declared_parts_and_shared_storages_count_once():
    parameter = nn.Parameter(torch.ones(10))
    optimizer = Parts([parameter], momentum=0.9)
    shared = torch.zeros(100)
    optimizer.state[parameter] = {
        "momentum_buffer": torch.zeros(10),
        "U": shared[:20],
        "V": [shared[50:], torch.zeros(5)],
        "step": torch.tensor(1.0),
        "elsewhere": torch.zeros(1000, device="meta"),
        "rank": 3,
    }
    assert state_bytes(optimizer, CPU) == {
        "momentum": 10 * FLOAT,
        "sketch": 105 * FLOAT,
        "rest": FLOAT,
    }
    assert state_bytes(None, CPU) == {}


def test_state_that_is_no_mapping_is_the_rest():
    optimizer = Parts([nn.Parameter(torch.ones(10))])
    optimizer.state["basis"] = torch.zeros(7)
    assert state_bytes(optimizer, CPU) == {"rest": 7 * FLOAT}


def _nets():
    conv = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(),
        nn.Linear(8 * 36, 5),
    )  # fmt: skip
    mlp = nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 5))
    return {"conv": (conv, torch.randn(6, 3, 8, 8)), "mlp": (mlp, torch.randn(6, 20))}


@pytest.mark.parametrize("name", ["conv", "mlp"])
def test_measuring_changes_no_bit_of_the_computation(name):
    def trained(meter):
        torch.manual_seed(0)
        model, x = _nets()[name]
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        live = LiveBytes(CPU, Watched(model, optimizer, (x,)))
        for _ in range(3):
            if meter:
                live.start()
            optimizer.zero_grad()
            F.cross_entropy(model(x), torch.arange(6) % 5).backward()
            optimizer.step()
            if meter:
                live.stop()
        moments = [v for state in optimizer.state.values() for v in state.values()]
        return [*model.state_dict().values(), *moments, torch.get_rng_state()]

    pairs = list(zip(trained(True), trained(False), strict=True))
    assert all(torch.equal(with_, without) for with_, without in pairs)


def test_measuring_draws_no_random_numbers(footprint):
    before = torch.get_rng_state()
    footprint(lambda: torch.zeros(3) + 1)
    assert torch.equal(before, torch.get_rng_state())


def test_fake_tensors_leave_the_footprint_of_real_ones():
    def step():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        optimizer = torch.optim.Adam(model.parameters(), foreach=False)
        x, y = torch.randn(32, 64), torch.zeros(32, dtype=torch.int64)
        live = LiveBytes(CPU, Watched(model, optimizer, (x, y)))
        for _ in range(2):
            optimizer.zero_grad()
            live.start()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            found = live.stop()
        log = [(block.category, block.op, change) for block, change in found.events]
        return found.peak, found.at_peak, found.kept, found.state, found.during, log

    real = step()
    with FakeTensorMode():
        assert step() == real


class Broken(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        raise ArithmeticError("no forward")


def _nothing_is_left(model, optimizer):
    resizes = "resize_" in vars(torch.UntypedStorage)
    hooks = [p._post_accumulate_grad_hooks for p in model.parameters()]
    assert not any(hooks)
    assert not _get_current_dispatch_mode_stack()
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    return gc.isenabled(), resizes, torch.UntypedStorage.resize_


def test_an_error_in_the_region_leaves_nothing_behind():
    model = Broken()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = _nothing_is_left(model, optimizer)
    live = LiveBytes(CPU, Watched(model, optimizer))
    with pytest.raises(ArithmeticError), live:
        model(torch.ones(3))
    assert _nothing_is_left(model, optimizer) == before
    assert live.footprint.at_peak["parameters"] == 3 * FLOAT


class Unreadable(torch.optim.SGD):
    """Its state can't be read once `broken`."""

    broken = False

    @property
    def state_parts(self):
        if self.broken:
            raise LookupError("no parts")
        return {}


def test_an_error_at_the_end_leaves_nothing_behind():
    model = Broken()
    optimizer = Unreadable(model.parameters(), lr=0.1)
    before = _nothing_is_left(model, optimizer)
    live = LiveBytes(CPU, Watched(model, optimizer))
    live.start()
    optimizer.broken = True
    with pytest.raises(LookupError):
        live.stop()
    assert _nothing_is_left(model, optimizer) == before


def test_an_error_at_the_beginning_leaves_nothing_behind():
    model = Broken()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = _nothing_is_left(model, optimizer)
    with pytest.raises(AttributeError):
        LiveBytes(CPU, Watched(model, object())).start()
    assert _nothing_is_left(model, optimizer) == before


def test_garbage_collection_that_was_off_stays_off(footprint):
    gc.disable()
    try:
        footprint(lambda: None)
        assert not gc.isenabled()
    finally:
        gc.enable()
