"""State is plain tensors: declared to the byte, saved, moved, and never poisoned."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from sketchbench.measure import state_bytes
from sketchbench.preconditioning import Kronecker

CPU = torch.device("cpu")
COUNTERS = {"step", "skipped", "summed"}
SHAPES = ((4, 3), (3,), (2, 3, 2, 2), (5, 7))
FULL = {
    "update_every": 3,
    "skipped": "averaged",
    "graft": "adafactor",
    "momentum": 0.9,
    "nesterov": True,
    "block_size": 4,
    "nonfinite": "skip",
}


def through_a_file(optimizer):
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def copies(params, dtype=None):
    return [nn.Parameter(p.detach().clone().to(dtype or p.dtype)) for p in params]


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
@pytest.mark.parametrize("options", [{}, FULL, {**FULL, "skipped": "observed", "graft": "rmsprop"}])
def test_a_saved_state_goes_on_to_the_bit_at_every_phase(exact, make, train, steps, options):
    params = make(*SHAPES)
    optimizer = Kronecker(params, exact(), lr=0.1, **options)
    train(optimizer, range(steps))
    others = copies(params)
    resumed = Kronecker(others, exact(), lr=0.5)
    resumed.load_state_dict(through_a_file(optimizer))
    train(optimizer, range(10, 15))
    train(resumed, range(10, 15))
    assert all(torch.equal(p, q) for p, q in zip(params, others, strict=True))


def test_the_first_step_after_loading_takes_parameters_without_gradient(exact, make, train):
    params = make((4, 3), (4, 3), (3,))
    optimizer = Kronecker(params, exact(), lr=0.1, **FULL)
    train(optimizer, range(2), idle=(1,))  # of which there's no state
    others = copies(params)
    resumed = Kronecker(others, exact(), lr=0.1, **FULL)
    resumed.load_state_dict(through_a_file(optimizer))
    train(resumed, range(2, 3), idle=(0,))
    train(optimizer, range(2, 3), idle=(0,))
    assert all(torch.equal(p, q) for p, q in zip(params, others, strict=True))


def test_what_is_loaded_is_a_copy(exact, make, train):
    params = make((4, 3))
    optimizer = Kronecker(params, exact(), lr=0.1, momentum=0.9)
    train(optimizer, range(2))
    saved = optimizer.state_dict()
    before = copy.deepcopy(saved["state"])
    resumed = Kronecker(copies(params), exact(), lr=0.1)
    resumed.load_state_dict(saved)
    train(resumed, range(3))
    for key, value in before[0].items():
        assert torch.equal(value, optimizer.state[params[0]][key]), key


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_moves_to_another_precision(exact, make, train, dtype):
    params = make(*SHAPES)
    optimizer = Kronecker(params, exact(), lr=0.1, **FULL)
    train(optimizer, range(2))
    others = copies(params, dtype)
    resumed = Kronecker(others, exact(), lr=0.1)
    resumed.load_state_dict(optimizer.state_dict())
    for p, q in zip(params, others, strict=True):
        for key, value in resumed.state[q].items():
            assert value.dtype == (torch.int64 if key in COUNTERS else torch.float32)
            assert value.device == q.device
            torch.testing.assert_close(value, optimizer.state[p][key], check_dtype=False)
    train(resumed, range(2, 4))


def test_a_state_of_bfloat16_keeps_its_digits_through_a_file(exact, make, train):
    params = make((4, 3), dtype=torch.bfloat16)
    optimizer = Kronecker(params, exact(), lr=0.1, momentum=0.9)
    train(optimizer, range(2))
    others = copies(params)
    resumed = Kronecker(others, exact(), lr=0.1)
    resumed.load_state_dict(through_a_file(optimizer))
    for key, value in optimizer.state[params[0]].items():
        assert torch.equal(resumed.state[others[0]][key], value), key
        assert value.dtype != torch.bfloat16, key


def test_a_state_moves_to_another_device(exact, make, train):
    params = make((4, 3))
    optimizer = Kronecker(params, exact(), lr=0.1, **FULL)
    train(optimizer, range(1))
    other = nn.Parameter(torch.empty(4, 3, device="meta"))
    resumed = Kronecker([other], exact(), lr=0.1)
    resumed.load_state_dict(optimizer.state_dict())
    state = resumed.state[other]
    assert {key for key, value in state.items() if value.device == CPU} == COUNTERS
    assert all(value.device.type == "meta" for key, value in state.items() if "." in key)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({"merge_dims": 0, "block_size": 2}, r"0\.0\.factor' was saved as \(4, 2, 2\), and is"),
        ({"graft": "adam"}, "the saved state has an unknown 'graft.squares'; build it as it was"),
    ],
)
def test_a_state_of_another_form_is_refused(exact, make, train, saved, message):
    optimizer = Kronecker(make((4, 4)), exact(), **saved)
    train(optimizer, range(1))
    given = optimizer.state_dict()
    given["param_groups"][0] |= {"block_size": None, "graft": "none"}
    with pytest.raises(ValueError, match=rf"parameter 0 \(4, 4\): .*{message}"):
        Kronecker(make((4, 4)), exact()).load_state_dict(given)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copy_steps_as_the_original_does(exact, make, train, copied):
    optimizer = Kronecker(make(*SHAPES), exact(), lr=0.1, **FULL)
    train(optimizer, range(2))
    again = copied(optimizer)
    ours, theirs = train(optimizer, range(2, 5)), train(again, range(2, 5))
    assert all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))
    assert again.state_parts == optimizer.state_parts


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, FULL, {"graft": "rmsprop", "max_dim": 4}])
def test_bytes_are_declared_part_by_part(exact, make, train, dtype, options):
    optimizer = Kronecker(make(*SHAPES, dtype=dtype), exact(), **options)
    declared = optimizer.declared_bytes()
    train(optimizer, range(1))
    assert state_bytes(optimizer, CPU) == declared
    assert optimizer.declared_bytes() == declared


def test_counters_are_not_on_an_accelerator(exact):
    p = nn.Parameter(torch.empty(4, 3, device="meta"))
    assert Kronecker([p], exact()).declared_bytes() == {"preconditioner": 4 * 2 * (16 + 9)}


def test_a_load_that_is_refused_changes_nothing(exact, make, train):
    optimizer = Kronecker(make((4, 4), (6, 4)), exact(), lr=7.0, momentum=0.5)
    train(optimizer, range(2))
    other = Kronecker(make((4, 4), (8, 4)), exact(), lr=0.1, momentum=0.5)
    train(other, range(1))
    before, after = optimizer.state_dict(), copy.deepcopy(optimizer.state_dict())
    with pytest.raises(ValueError, match=r"parameter 1 \(6, 4\): '0\.0\.factor' was saved as"):
        optimizer.load_state_dict(other.state_dict())
    assert before["param_groups"] == after["param_groups"]
    for index, state in optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, after["state"][index][key]) for key, value in state.items())
    train(optimizer, range(2, 3))


def test_a_load_without_an_option_is_refused(exact, make):
    optimizer = Kronecker(make((4, 4)), exact())
    given = optimizer.state_dict()
    del given["param_groups"][0]["graft"]
    with pytest.raises(ValueError, match="a group has no 'graft'"):
        optimizer.load_state_dict(given)


def test_a_load_with_other_groups_is_refused_by_torch(exact, make):
    saved = Kronecker(make((4, 4), (4, 4)), exact()).state_dict()
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        Kronecker(make((4, 4)), exact()).load_state_dict(saved)


@pytest.mark.parametrize(
    ("options", "changed", "message"),
    [
        ({}, {"momentum": 0.9}, "momentum=0.9"),
        ({"graft": "adam"}, {"graft": "adafactor"}, "graft='adafactor'"),
        ({}, {"block_size": 2}, "block_size=2"),
        ({}, {"nonfinite": "skip"}, "nonfinite='skip'"),
        (
            {"skipped": "averaged"},
            {"update_every": 10},
            "skipped='averaged' and update_every=10",
        ),
    ],
)
def test_an_option_that_a_state_has_no_room_for_is_named(
    exact, make, train, options, changed, message
):
    optimizer = Kronecker(make((4, 3)), exact(), **options)
    optimizer.param_groups[0] |= changed  # before the first step any will do
    train(optimizer, range(1))
    optimizer = Kronecker(make((4, 3)), exact(), **options)
    train(optimizer, range(1))
    optimizer.param_groups[0] |= changed
    expected = rf"parameter 0 \(4, 3\): its state was made without room for {message}; set it back"
    with pytest.raises(ValueError, match=expected):
        train(optimizer, range(1))
    again = copy.deepcopy(optimizer)
    with pytest.raises(ValueError, match=expected):
        train(again, range(1))


def test_options_that_need_no_room_may_change(exact, make, train):
    optimizer = Kronecker(make((4, 3)), exact(), **FULL)
    train(optimizer, range(2))
    quiet = {"momentum": 0.0, "nesterov": False, "nonfinite": "raise", "skipped": "exact"}
    for changed in (quiet, {"momentum": 0.5, "skipped": "averaged", "update_every": 2}):
        optimizer.param_groups[0] |= changed
        train(optimizer, range(2, 5))


NAN, INF = float("nan"), float("inf")
BROKEN = [(NAN, torch.float64), (INF, torch.float64), (1e200, torch.float64)]
BROKEN += [(-INF, torch.float32), (1e25, torch.float32), (1e25, torch.bfloat16)]


@pytest.mark.parametrize(("value", "dtype"), BROKEN)
def test_a_broken_gradient_raises_before_anything_changes(exact, make, train, value, dtype):
    params = make(*SHAPES, dtype=dtype)
    optimizer = Kronecker(params, exact(), lr=0.1, momentum=0.9)
    train(optimizer, range(2))
    state, weights = copy.deepcopy(optimizer.state_dict()["state"]), copies(params)
    params[2].grad[1, 2, 0, 1] = value
    with pytest.raises(FloatingPointError, match=r"parameter 2 \(2, 3, 2, 2\): its gradient isn't"):
        optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(params, weights, strict=True))
    for index, kept in optimizer.state_dict()["state"].items():
        assert all(torch.equal(value, state[index][key]) for key, value in kept.items())


@pytest.mark.parametrize("first", [0, 2])
def test_a_broken_gradient_is_skipped_and_counted(exact, make, train, first):
    params, others = make(*SHAPES), make(*SHAPES)
    optimizer = Kronecker(params, exact(), lr=0.1, **FULL)
    idle = Kronecker(others, exact(), lr=0.1, **FULL)
    train(optimizer, range(first))
    train(idle, range(first))
    train(idle, range(5, 6), idle=(0,))
    for p, q in zip(params, others, strict=True):
        p.grad = torch.full_like(p, torch.nan) if q.grad is None else q.grad.clone()
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(params, others, strict=True))
    counts = [int(optimizer.state[p]["skipped"]) for p in params]
    assert counts == [1, 0, 0, 0]
    train(optimizer, range(6, 10))
    train(idle, range(6, 10))
    assert all(torch.equal(p, q) for p, q in zip(params, others, strict=True))
    assert through_a_file(optimizer)["state"][0]["skipped"] == 1


@pytest.mark.parametrize("kind", ["sparse", "complex"])
def test_gradients_that_arent_dense_and_real_are_refused(exact, kind):
    p = nn.Parameter(torch.zeros(3, 2, dtype=torch.complex64 if kind == "complex" else None))
    p.grad = torch.ones_like(p).to_sparse() if kind == "sparse" else torch.ones_like(p)
    with pytest.raises(TypeError, match=f"its gradient is {kind}; only dense real ones are taken"):
        Kronecker([p], exact()).step()


def test_sharded_parameters_are_refused(exact, make):
    (p,) = make((4, 3))
    p.full_tensor = p.detach  # what tells a DTensor
    with pytest.raises(TypeError, match="a sharded parameter"):
        Kronecker([p], exact())
