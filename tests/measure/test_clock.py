import subprocess
import sys
import time

import pytest
import torch

from sketchbench.builtin.metrics.timing import BuildTime, StepTime
from sketchbench.measure import Clock, Elapsed
from sketchbench.measure.device import Cuda, Scripted
from sketchbench.protocols import Watched

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def device(cuda_stand_in):
    return cuda_stand_in()


@pytest.fixture
def clock(device):
    return Clock(CUDA, Watched(), Cuda(CUDA, device))


def test_on_the_cpu_no_device_is_asked():
    meter = Scripted()
    clock = Clock(CPU, Watched(), meter)
    clock.start()
    assert clock.stop().device is None
    assert meter.calls == []


def test_on_the_cpu_the_clock_needs_no_torch():
    code = (
        "import sys, types\n"
        "from sketchbench.protocols import Watched\n"
        "from sketchbench.measure import Clock\n"
        "clock = Clock(types.SimpleNamespace(type='cpu'), Watched())\n"
        "clock.start(), clock.stop()\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_cpu_seconds_are_those_the_process_worked():
    clock = Clock(CPU, Watched())
    before = time.process_time()
    clock.start()
    started = time.process_time()
    while time.process_time() < started + 0.02:
        pass
    ended = time.process_time()
    reading = clock.stop()
    assert ended - started <= reading.cpu <= time.process_time() - before


def test_a_clock_starts_anew_for_every_occurrence():
    clock = Clock(CPU, Watched())
    clock.start()
    started = time.perf_counter()
    while time.perf_counter() < started + 0.02:
        pass
    first = clock.stop()
    before = time.perf_counter()
    clock.start()
    second = clock.stop()
    assert second.wall <= time.perf_counter() - before
    assert first.wall >= 0.02


def test_on_cuda_each_edge_waits_once_and_the_events_lie_between(device, clock):
    clock.start()
    device.work(0.25)
    clock.stop()
    assert device.calls == [
        "synchronize",
        "record on cuda:0",
        "work",
        "record on cuda:0",
        "synchronize",
    ]


def test_device_seconds_are_those_between_the_events(device, clock):
    clock.start()
    device.work(0.25)
    device.work(0.5)
    assert clock.stop().device == pytest.approx(0.75)


def test_work_queued_before_the_region_or_after_it_is_not_its_own(device, clock):
    device.work(10.0)
    clock.start()
    device.work(0.25)
    first = clock.stop()
    device.work(3.0)
    clock.start()
    second = clock.stop()
    assert first.device == pytest.approx(0.25)
    assert second.device == 0


def test_on_cuda_the_hosts_seconds_are_read_too(clock):
    before = time.perf_counter()
    clock.start()
    reading = clock.stop()
    assert 0 < reading.wall <= time.perf_counter() - before
    assert reading.cpu > 0


def test_events_are_those_of_the_clocks_own_device(cuda_stand_in):
    device = cuda_stand_in()
    second = torch.device("cuda", 1)
    clock = Clock(second, Watched(), Cuda(second, device))
    clock.start()
    clock.stop()
    assert device.current_device() == 0
    assert [call for call in device.calls if "record" in call] == ["record on cuda:1"] * 2


def test_an_error_of_the_device_comes_out_where_the_region_ends(device, clock):
    def broken(index):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    clock.start()
    device.synchronize = broken
    with pytest.raises(RuntimeError, match="illegal memory access"):
        clock.stop()


def test_a_scripted_meter_gives_the_device_seconds():
    clock = Clock(CUDA, Watched(), Scripted(seconds=[0.5, 0.25]))
    seconds = []
    for _ in range(2):
        clock.start()
        seconds.append(clock.stop().device)
    assert seconds == [0.5, 0.25]


@pytest.mark.parametrize("probe", [StepTime(), BuildTime()])
def test_on_cuda_the_value_is_device_time_and_wall_stands_beside_it(probe):
    readings = [Elapsed(1.0, 0.5, 0.75), Elapsed(3.0, 1.5, 2.25), Elapsed(2.0, 1.0, 0.0)]
    summary = dict(probe.summarise(readings))
    assert summary == pytest.approx(
        {"value": 1.0, "median": 0.75, "p95": 0.75 + 0.9 * 1.5, "cpu": 1.0, "wall": 2.0}
    )
    assert [probe.sample(reading) for reading in readings] == [0.75, 2.25, 0.0]


def test_on_the_cpu_the_value_is_wall_time_and_stands_alone():
    readings = [Elapsed(1.0, 0.5), Elapsed(3.0, 1.5)]
    assert dict(StepTime().summarise(readings)) == pytest.approx(
        {"value": 2.0, "median": 2.0, "p95": 2.9, "cpu": 1.0}
    )
