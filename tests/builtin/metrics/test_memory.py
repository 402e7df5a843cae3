import math

import pytest
import torch
from torch import nn

from sketchbench import Missing, Workload
from sketchbench.builtin.metrics import memory
from sketchbench.measure import Footprint, Usage, category
from sketchbench.run import Enough, Run, Wanted

FLOAT = 4
AUDITED = (
    memory.PeakBytes,
    memory.ActivationBytes,
    memory.SketchBytes,
    memory.StateBytes,
    memory.RequestedBytes,
    memory.AllocatedBytes,
    memory.ReservedBytes,
    memory.DeviceTotalBytes,
)


def usage(peak=10, requested=12, untouched=3, **more):
    footprint = Footprint(
        start=4,
        peak=peak,
        at_peak={"parameters": 4, "activations": peak - 4},
        during="mm, forward",
        highest={"parameters": 4, "activations": peak - 4, "sketches": 2},
        kept={"activations": peak - 4, "sketches": 2},
        kept_blocks=[],
        state={"momentum": 5, "rest": 1},
        events=[],
    )
    before = {"requested": 4 + untouched, "requested_peak": 4 + untouched}
    after = before | {"requested_peak": requested + untouched}
    return Usage(footprint, before, after, **more)


def test_the_value_is_the_most_of_any_occurrence_with_its_own_parts():
    readings = [usage(10), usage(30), usage(20)]
    assert memory.PeakBytes().summarise(readings) == {
        "value": 30,
        "parameters": 4,
        "activations": 26,
    }
    assert [memory.PeakBytes().sample(each) for each in readings] == [10, 30, 20]


def test_a_breakdown_adds_up_to_its_value():
    for metric in (memory.PeakBytes(), memory.StateBytes(), memory.ActivationBytes()):
        parts = dict(metric.summarise([usage(10)]))
        assert parts.pop("value") == sum(parts.values())


def test_sketches_count_as_what_is_kept_and_by_themselves():
    assert memory.ActivationBytes().sample(usage(10)) == 6 + 2
    assert memory.SketchBytes().summarise([usage(10)]) == {"value": 2}


def test_no_sketch_is_no_bytes_of_sketches():
    plain = usage()
    del plain.footprint.highest["sketches"]
    assert memory.SketchBytes().sample(plain) == 0


def test_requested_bytes_leave_out_what_the_region_never_touches():
    assert memory.RequestedBytes().summarise([usage(requested=12, untouched=3)]) == {
        "value": 12,
        "other": 3,
    }


@pytest.mark.parametrize(
    "metric", [memory.RequestedBytes(), memory.AllocatedBytes(), memory.ReservedBytes()]
)
def test_a_peak_that_cannot_be_had_says_why(metric):
    with pytest.raises(Missing, match="no compiler"):
        metric.summarise([usage(why="no compiler")])


@pytest.mark.parametrize("metric", [memory.AllocatedBytes(), memory.ReservedBytes()])
def test_blocks_and_segments_are_missing_off_cuda(metric):
    with pytest.raises(Missing, match=f"no '{metric.peak}' bytes"):
        metric.summarise([usage()])


def test_retries_are_told_beside_the_segments():
    found = usage()
    after = {**found.after, "reserved_peak": 64, "retries": 2}
    found = Usage(found.footprint, found.before, after)
    assert memory.ReservedBytes().summarise([found]) == {"value": 64, "retries": 2}


def test_the_device_s_own_figure_is_missing_with_its_reason():
    assert memory.DeviceTotalBytes().sample(usage(total_bytes=99)) == 99
    with pytest.raises(Missing, match="no NVML here"):
        memory.DeviceTotalBytes().summarise([usage(why_no_total="no NVML here")])


def test_workspace_is_the_most_of_any_occurrence_not_a_difference_of_maxima():
    readings = [usage(peak=100, requested=100), usage(peak=10, requested=12)]
    assert memory.WorkspaceBytes().summarise(readings) == {"value": 2}
    assert [memory.WorkspaceBytes().sample(each) for each in readings] == [0, 2]


def test_workspace_is_missing_where_there_are_no_figures_of_the_allocator():
    with pytest.raises(Missing, match="no compiler"):
        memory.WorkspaceBytes().summarise([usage(why="no compiler")])


def test_workspace_is_missing_where_the_allocator_lost_what_nobody_named():
    with pytest.raises(Missing, match="3 bytes below that of live bytes"):
        memory.WorkspaceBytes().summarise([usage(peak=15, requested=12)])


class Momentum(torch.optim.SGD):
    state_parts = {"momentum_buffer": "momentum"}


class Training(Workload):
    """A linear layer of 30 × 20 without bias, and a sketch of 7 numbers in each step."""

    name = "of-the-test"

    def run(self, run):
        model, x = nn.Sequential(nn.Linear(20, 30, bias=False)), torch.ones(5, 20)
        optimizer = Momentum(model.parameters(), lr=0.1, momentum=0.9)
        run.watch(model=model, optimizer=optimizer, inputs=x)
        for _ in range(9):
            with run.region("step"):
                optimizer.zero_grad()
                with category("sketch"):
                    sketch = torch.ones(7)
                (model(x).sum() + sketch.sum()).backward()
                optimizer.step()
                del sketch


def test_a_run_reads_every_metric_of_memory_with_one_meter():
    run = Run(torch.device("cpu"), 0, [Wanted(kind(), "step") for kind in AUDITED], stage="audit")
    with pytest.raises(Enough):
        Training().run(run)
    found = {each.metric: each for each in run.measurements()}
    weight = 20 * 30 * FLOAT
    assert found["sketch_bytes"].value == 7 * FLOAT
    assert found["state_bytes"].value == found["state_bytes"].parts["momentum"] == weight
    parts = dict(found["peak_bytes"].parts)
    parts.pop("occurrences")
    assert sum(parts.values()) == found["peak_bytes"].value
    assert parts["parameters"] == parts["optimizer_state"] == weight
    assert parts["inputs"] == 5 * 20 * FLOAT
    kept = found["activation_bytes"]
    assert kept.value == kept.parts["activations"] + kept.parts["sketches"]
    assert kept.parts["sketches"] == 7 * FLOAT
    for name in ("allocated_bytes", "reserved_bytes", "device_total_bytes"):
        assert math.isnan(found[name].value)
        assert found[name].why
