import dataclasses
import gc
from functools import partial

import pytest
import torch

from sketchbench.measure.device import device_meter

FLOAT = 4


def measure(make, usage):
    """Measure a step of the case that `make` makes; nothing but the case is there to be left out.

    What earlier tests in this process left alive is: it was there before the case.
    """
    gc.collect()
    left = device_meter(torch.device("cpu")).stats()["requested"]
    case = make()
    case.prepare()
    found = usage(case.step, case.model, case.optimizer, case.inputs)
    assert found.other_bytes == left
    return found, case


def workspace(found):
    return found.requested_peak - found.footprint.peak


SMALL = {"width": 256, "batch": 64}
TINY_GPT = {"width": 64, "batch": 2, "context": 32}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("mlp_sgd", SMALL),
        ("mlp_adam", SMALL),
        ("sketched_mlp_sgd", SMALL),
        ("gpt_adam", TINY_GPT),
        ("checkpointed_gpt_adam", TINY_GPT | {"layers": 3}),
        ("conv_adam", {"width": 8, "batch": 4}),
    ],
)
def test_live_bytes_are_those_counted_by_hand(cases, usage, name, arguments):
    found, case = measure(partial(getattr(cases, name), **arguments), usage)
    if case.hand:
        assert dict(found.footprint.at_peak) == case.hand
        assert found.footprint.peak == sum(case.hand.values())
    assert sum(found.footprint.kept.values()) == case.kept
    assert sum(found.footprint.at_peak.values()) == found.footprint.peak


@pytest.mark.parametrize(
    ("name", "arguments", "most"),
    [
        ("mlp_sgd", SMALL, 0),
        ("mlp_adam", SMALL, 64),  # scalars made inside Adam's kernels
        ("sketched_mlp_sgd", SMALL, 0),
        ("gpt_adam", TINY_GPT, 64),
    ],
)
def test_live_bytes_and_workspace_are_the_allocators_peak(cases, usage, name, arguments, most):
    found, _ = measure(partial(getattr(cases, name), **arguments), usage)
    assert 0 <= workspace(found) <= most


@pytest.mark.parametrize("name", ["mlp_sgd", "mlp_adam", "sketched_mlp_sgd"])
def test_a_large_perceptron_is_known_to_the_byte(cases, usage, name):
    tracked = {"mlp_sgd": 151_060_484, "mlp_adam": 314_712_096, "sketched_mlp_sgd": 157_351_940}
    found, case = measure(getattr(cases, name), usage)
    assert found.footprint.peak == tracked[name] == sum(case.hand.values())
    assert 0 <= workspace(found) <= (64 if name == "mlp_adam" else 0)


@pytest.mark.nightly
def test_a_transformer_of_twelve_layers_is_known_to_the_byte(cases, usage):
    found, case = measure(cases.gpt_adam, usage)
    assert found.footprint.peak == 336_398_940 == sum(case.hand.values())
    assert found.requested_peak == found.footprint.peak


def test_convolutions_have_workspace_that_no_tensor_shows(cases, usage):
    found, _ = measure(cases.conv_adam, usage)
    assert workspace(found) > 64


def test_checkpointing_has_workspace_that_is_small_but_told(cases, usage):
    found, _ = measure(partial(cases.checkpointed_gpt_adam, layers=3, **TINY_GPT), usage)
    assert 0 <= workspace(found) < 16384


def test_checkpointing_keeps_less(cases, usage):
    plain, _ = measure(partial(cases.gpt_adam, layers=3, **TINY_GPT), usage)
    again, _ = measure(partial(cases.checkpointed_gpt_adam, layers=3, **TINY_GPT), usage)
    assert sum(again.footprint.kept.values()) < sum(plain.footprint.kept.values()) / 2


@pytest.mark.parametrize("name", ["mlp_adam", "sketched_mlp_sgd", "conv_adam", "gpt_adam"])
def test_ten_readings_are_ten_equal_numbers(cases, usage, name):
    sizes = {"gpt_adam": TINY_GPT | {"layers": 2}, "conv_adam": {"width": 8, "batch": 4}}
    case = getattr(cases, name)(**sizes.get(name, SMALL))
    case.prepare()
    seen = set()
    for _ in range(10):
        case.optimizer.zero_grad(set_to_none=True)
        found = usage(case.step, case.model, case.optimizer, case.inputs)
        everything = dataclasses.asdict(dataclasses.replace(found.footprint, events=()))
        log = [
            (block.category, block.op, block.shape, block.dtype, change)
            for block, change in found.footprint.events
        ]
        seen.add(repr((everything, log, found.before, found.after, found.requested_peak)))
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("work", "tensors"),
    [
        (torch.linalg.qr, (2000 * 200 * 2 + 200 * 200) * FLOAT),
        (torch.linalg.svd, None),
    ],
)
def test_factorizations_have_workspace(usage, work, tensors):
    x = torch.randn(2000, 200) if work is torch.linalg.qr else torch.randn(400, 200)
    found = usage(lambda: work(x), inputs=(x,))
    if tensors is not None:
        assert found.footprint.peak == tensors
    assert workspace(found) > 64
