import pytest
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from sketchbench import Missing, Watched
from sketchbench.measure import Memory, Scripted

CPU = torch.device("cpu")
FLOAT = 4
BEFORE = {"requested": 1000, "requested_peak": 1000, "reserved": 2000, "reserved_peak": 2000}
AFTER = {"requested": 1000, "requested_peak": 5000, "reserved": 2000, "reserved_peak": 6000}


def measure(script, work=lambda: None, **watched):
    memory = Memory(CPU, Watched(**watched), script)
    memory.start()
    kept = work()
    found = memory.stop()
    del kept
    return found


def test_what_the_region_never_touches_is_taken_off():
    x = torch.zeros(100)
    found = measure(Scripted([BEFORE, AFTER], totals=[7]), inputs=(x,))
    assert found.other_bytes == 1000 - 100 * FLOAT
    assert found.requested_peak == 5000 - (1000 - 100 * FLOAT)
    assert found.peak("reserved") == 6000
    assert found.total_bytes == 7


def test_the_device_waits_before_each_reading():
    script = Scripted([BEFORE, AFTER], totals=[7])
    measure(script)
    assert script.calls == ["synchronize", "reset_peaks", "stats", "synchronize", "stats", "total"]


def test_an_allocator_without_counters_gives_its_reason_for_every_figure():
    found = measure(Scripted([Missing("no compiler")], totals=[Missing("no NVML")]))
    for read in (
        lambda: found.requested_peak,
        lambda: found.other_bytes,
        lambda: found.peak("allocated"),
    ):
        with pytest.raises(Missing, match="no compiler"):
            read()
    assert found.total_bytes is None
    assert found.why_no_total == "no NVML"


def test_live_bytes_need_no_allocator_of_their_own():
    found = measure(Scripted([Missing("none")], totals=[7]), lambda: torch.zeros(50))
    assert found.footprint.peak == 50 * FLOAT


def test_a_figure_that_this_allocator_lacks_is_missing():
    found = measure(Scripted([BEFORE, AFTER], totals=[7]))
    with pytest.raises(Missing, match="no 'allocated' bytes"):
        found.peak("allocated")


def test_a_meter_that_fails_leaves_no_mode_behind():
    memory = Memory(CPU, Watched(), Scripted())  # no readings: it raises
    with pytest.raises(LookupError):
        memory.start()
    assert not _get_current_dispatch_mode_stack()
    memory = Memory(CPU, Watched(), Scripted([BEFORE]))
    memory.start()
    with pytest.raises(LookupError):
        memory.stop()
    assert not _get_current_dispatch_mode_stack()


def test_tensors_of_others_are_not_in_the_requested_bytes(usage):
    others = torch.zeros(10_000)
    x = torch.zeros(100)
    found = usage(x.neg, inputs=(x,))
    assert found.other_bytes >= others.nbytes
    assert found.requested_peak == found.footprint.peak == 200 * FLOAT


def test_memory_that_the_allocator_does_not_own_leaves_the_difference_right(usage):
    numpy = pytest.importorskip("numpy")
    x = torch.from_numpy(numpy.zeros(10_000, dtype=numpy.float32))
    found = usage(lambda: x.neg(), inputs=(x,))
    assert found.footprint.peak == 2 * x.nbytes
    assert found.requested_peak == found.footprint.peak
