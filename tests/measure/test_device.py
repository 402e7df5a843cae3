import errno
import os
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from sketchbench.measure import Memory, cpu_allocator
from sketchbench.measure.device import Cpu, Cuda, Scripted, device_meter, is_out_of_memory
from sketchbench.protocols import Missing, Watched

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
MIB = 2**20
PEAKS = ("requested_peak", "allocated_peak", "reserved_peak")


@pytest.fixture
def device(cuda_stand_in):
    return cuda_stand_in()


@pytest.fixture
def meter(device):
    return Cuda(CUDA, device)


# ---------------------------------------------------------------- the caching allocator's counters


def test_before_anything_is_allocated_every_counter_is_zero(meter):
    assert set(meter.stats().values()) == {0}


def test_requests_are_exact_blocks_are_rounded_and_segments_are_whole(device, meter):
    device.allocate(1000)
    assert meter.stats() == {
        "requested": 1000,
        "requested_peak": 1000,
        "allocated": 1024,
        "allocated_peak": 1024,
        "reserved": 2 * MIB,
        "reserved_peak": 2 * MIB,
        "retries": 0,
        "ooms": 0,
    }
    device.allocate(3 * MIB + 1)
    after = meter.stats()
    assert after["requested"] == 1000 + 3 * MIB + 1
    assert after["allocated"] == 1024 + 3 * MIB + 512
    assert after["reserved"] == 22 * MIB


def test_a_peak_outlives_what_made_it_until_it_is_reset(device, meter):
    kept, freed = device.allocate(4096), device.allocate(MIB)
    device.free(freed)
    stats = meter.stats()
    assert (stats["requested"], stats["requested_peak"]) == (4096, 4096 + MIB)
    meter.reset_peaks()
    stats = meter.stats()
    assert (stats["requested"], stats["requested_peak"]) == (4096, 4096)
    assert stats["reserved_peak"] == stats["reserved"] == 2 * MIB
    device.free(kept)
    assert meter.stats()["requested"] == 0


def test_a_workspace_that_the_warm_up_made_is_not_charged_to_later_readings(device, meter):
    def step():
        if not workspaces:  # cuBLAS keeps its workspace from its first call on
            workspaces.append(device.allocate(32 * MIB))
        device.free(device.allocate(5 * MIB))

    workspaces, needed = [], []
    for _ in range(3):
        meter.synchronize()
        meter.reset_peaks()
        before = meter.stats()
        step()
        meter.synchronize()
        after = meter.stats()
        needed.append({name: after[name] - before[name.removesuffix("_peak")] for name in PEAKS})
    assert needed[0]["requested_peak"] == 37 * MIB
    assert needed[1] == needed[2]
    assert needed[1]["requested_peak"] == needed[1]["allocated_peak"] == 5 * MIB
    assert needed[1]["reserved_peak"] == 0


def test_a_reading_of_memory_waits_resets_works_waits_and_looks(device, meter):
    memory = Memory(CPU, Watched(), meter)
    memory.start()
    block = device.allocate(1000)
    device.work(1.0)
    memory.stop()
    device.free(block)
    calls = [call for call in device.calls if call != "allocate"]
    assert calls == ["synchronize", "reset", "stats", "work", "synchronize", "stats", "free"]


def test_without_an_index_the_current_device_is_meant(device):
    device.current_device = lambda: 3
    meter = Cuda(torch.device("cuda"), device)
    asked = []
    device.synchronize = asked.append
    device.reset_peak_memory_stats = asked.append
    meter.synchronize()
    meter.reset_peaks()
    assert asked == [3, 3]


def test_statistics_come_from_an_initialised_module(device):
    assert device.memory_stats(0) == {}
    Cuda(CUDA, device)
    assert device.memory_stats(0)["requested_bytes.all.current"] == 0


@pytest.mark.parametrize("backend", ["cudaMallocAsync", "pluggable"])
def test_zeros_of_another_allocator_are_missing_not_zero(device, meter, backend):
    device.backend = backend
    device.allocate(1000)
    assert device.memory_stats(0)["requested_bytes.all.current"] == 0
    with pytest.raises(Missing, match=f"the CUDA allocator is '{backend}'"):
        meter.stats()


def test_with_caching_turned_off_nothing_is_counted(meter, monkeypatch):
    monkeypatch.setenv("PYTORCH_NO_CUDA_MEMORY_CACHING", "1")
    with pytest.raises(Missing, match="PYTORCH_NO_CUDA_MEMORY_CACHING is set"):
        meter.stats()


def test_a_torch_without_requested_bytes_has_no_statistics(device, meter):
    device.without = ("requested_bytes",)
    with pytest.raises(Missing, match="doesn't report requested bytes"):
        meter.stats()


# ---------------------------------------------------------------- events


def test_events_give_seconds(device, meter):
    first, last = meter.event(), meter.event()
    first.record()
    device.work(0.125)
    last.record()
    meter.synchronize()
    assert first.seconds_until(last) == pytest.approx(0.125)


def test_an_event_that_was_not_reached_has_no_time(device, meter):
    first, last = meter.event(), meter.event()
    first.record()
    device.work(0.125)
    last.record()
    with pytest.raises(RuntimeError, match="must be completed"):
        first.seconds_until(last)


# ---------------------------------------------------------------- out of memory


def test_running_out_is_counted_recognised_and_survived(cuda_stand_in):
    device = cuda_stand_in(capacity=40 * MIB)
    meter = Cuda(CUDA, device)
    device.free(device.allocate(20 * MIB))
    block = device.allocate(30 * MIB)  # only fits once the cache is given back
    assert (meter.stats()["retries"], meter.stats()["ooms"]) == (1, 0)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory") as caught:
        device.allocate(20 * MIB)
    assert is_out_of_memory(caught.value)
    stats = meter.stats()
    assert (stats["retries"], stats["ooms"]) == (2, 1)
    assert stats["requested"] == 30 * MIB
    device.free(block)
    device.allocate(20 * MIB)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: torch.empty(2**60, dtype=torch.uint8),
        lambda: np.empty(2**60, dtype=np.uint8),
        lambda: bytearray(2**60),
    ],
    ids=["torch", "numpy", "python"],
)
def test_a_host_without_that_much_memory_is_recognised(ask):
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        ask()
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("of any text"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("unable to mmap 8 bytes from file <x>: Cannot allocate memory (12)"),
        OSError(errno.ENOMEM, "of any text"),
    ],
    ids=str,
)
def test_what_says_that_memory_ran_out_is_recognised(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        OSError(errno.ENOSPC, "No space left on device"),
        ValueError("memory"),
        SystemExit(1),
    ],
    ids=str,
)
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)


def test_recognising_an_error_does_not_import_torch():
    code = (
        "import sys\n"
        "from sketchbench.measure.device import is_out_of_memory\n"
        "assert is_out_of_memory(MemoryError()) and not is_out_of_memory(ValueError())\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- NVML


class Driver:
    """Stands for pynvml: the processes of each GPU or MIG instance, by its UUID."""

    class NVMLError(Exception):
        """A failure of NVML's."""

    def __init__(self, running):
        self.running = running

    def nvmlInit(self):
        if self.running is None:
            raise self.NVMLError("Driver Not Loaded")

    def nvmlDeviceGetHandleByUUID(self, uuid):
        if uuid not in self.running:
            raise self.NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetComputeRunningProcesses(self, handle):
        return [
            types.SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.running[handle]
        ]


@pytest.fixture
def nvml(device, monkeypatch):
    """Return a function that puts a driver in place, and the UUID of the meter's GPU."""

    def driver(running):
        monkeypatch.setitem(sys.modules, "pynvml", Driver(running))
        return Cuda(CUDA, device)

    return driver, device.get_device_properties(0).uuid


def test_the_total_is_that_of_this_process_on_the_gpu_of_this_uuid(nvml):
    driver, uuid = nvml
    me = os.getpid()
    other = f"GPU-{uuid[:-1]}{'0' if uuid[-1] != '0' else '1'}"
    running = {other: [(me, 7)], f"GPU-{uuid}": [(me + 1, 5), (me, 600 * MIB)]}
    assert driver(running).total() == 600 * MIB


def test_a_mig_instance_is_found_and_a_process_on_two_compute_instances_adds_up(nvml):
    driver, uuid = nvml
    running = {f"MIG-{uuid}": [(os.getpid(), 3 * MIB), (os.getpid(), 4 * MIB)]}
    assert driver(running).total() == 7 * MIB


def test_without_pynvml_the_reason_names_the_extra(meter, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(Missing, match=r"pynvml isn't installed \(pip install 'sketchbench\[gpu\]'"):
        meter.total()


def test_without_a_driver_there_is_no_total(nvml):
    with pytest.raises(Missing, match="NVML: Driver Not Loaded"):
        nvml[0](None).total()


def test_a_gpu_that_nvml_does_not_know_has_no_total(nvml):
    with pytest.raises(Missing, match="NVML: Not Found"):
        nvml[0]({"GPU-0": []}).total()


@pytest.mark.parametrize("others", [[], [(1, 600 * MIB)]])
def test_a_process_that_is_not_listed_is_not_guessed_at(nvml, others):
    driver, uuid = nvml
    with pytest.raises(Missing, match=f"doesn't list process {os.getpid()}.*in a container"):
        driver({f"GPU-{uuid}": others}).total()


def test_a_driver_that_keeps_the_memory_to_itself_gives_no_zero(nvml):
    driver, uuid = nvml
    with pytest.raises(Missing, match="doesn't tell its memory"):
        driver({f"GPU-{uuid}": [(os.getpid(), None)]}).total()


# ---------------------------------------------------------------- CPU


def test_the_cpus_statistics_are_the_bytes_asked_for():
    meter = Cpu()
    try:
        meter.reset_peaks()
    except Missing as reason:
        pytest.skip(str(reason))
    before = meter.stats()["requested"]
    kept = torch.empty(1000, dtype=torch.uint8)
    torch.empty(5000, dtype=torch.uint8)
    stats = meter.stats()
    assert set(stats) == {"requested", "requested_peak"}
    assert stats["requested"] - before == kept.numel()
    assert stats["requested_peak"] - before == 6000


def test_where_the_cpus_allocator_cannot_be_wrapped_its_statistics_are_missing(monkeypatch):
    def install():
        raise Missing("no C++ compiler")

    monkeypatch.setattr(cpu_allocator, "install", install)
    for read in (Cpu().stats, Cpu().reset_peaks):
        with pytest.raises(Missing, match="no C\\+\\+ compiler"):
            read()


def test_the_cpu_has_no_device_memory_to_total():
    with pytest.raises(Missing, match="no device memory"):
        Cpu().total()


def test_the_cpus_events_are_in_order_on_the_hosts_clock():
    meter = Cpu()
    first, last = meter.event(), meter.event()
    first.record()
    meter.synchronize()
    last.record()
    assert first.seconds_until(last) >= 0 >= last.seconds_until(first)


# ---------------------------------------------------------------- which one; scripts


def test_each_device_has_its_meter():
    assert isinstance(device_meter(CPU), Cpu)
    with pytest.raises(Missing, match="device 'meta': only cpu and cuda can be measured"):
        device_meter(torch.device("meta"))


def test_a_script_replays_its_readings_in_order():
    meter = Scripted(
        stats=[{"requested": 1}, Missing("gone"), {"requested": 2}],
        seconds=[0.5, 0.0],
        totals=[7, Missing("no driver")],
    )
    assert meter.stats() == {"requested": 1}
    with pytest.raises(Missing, match="gone"):
        meter.stats()
    assert meter.stats() == {"requested": 2}
    assert meter.total() == 7
    with pytest.raises(Missing, match="no driver"):
        meter.total()
    first, last = meter.event(), meter.event()
    first.record()
    meter.reset_peaks()
    last.record()
    meter.synchronize()
    assert [first.seconds_until(last), first.seconds_until(last)] == [0.5, 0.0]
    assert meter.calls[-6:-2] == ["record", "reset_peaks", "record", "synchronize"]


@pytest.mark.parametrize("read", ["stats", "total"])
def test_a_script_that_has_run_out_says_so(read):
    with pytest.raises(LookupError, match=f"no reading of '{read}' is left"):
        getattr(Scripted(), read)()
