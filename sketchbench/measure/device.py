"""The device's own instruments: its allocator's counters, its clock, and the driver's account."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sketchbench.protocols import Missing

if TYPE_CHECKING:
    import torch

    from sketchbench.measure.cpu_allocator import Counters

_UNCACHED = "PYTORCH_NO_CUDA_MEMORY_CACHING"
_OUT_OF_MEMORY = (
    "can't allocate memory",
    "Cannot allocate memory",
    "not enough memory",
    "out of memory",
    "_STATUS_ALLOC_FAILED",  # cuBLAS, cuDNN and cuSOLVER, which allocate beside torch
)


class DeviceEvent(Protocol):
    """A point in the device's work."""

    def record(self) -> None:
        """Mark the point after all that has been asked of the device so far."""

    def seconds_until(self, other: Any) -> float:
        """Return the device's seconds from here to `other`, once both have been reached."""


class DeviceMeter(Protocol):
    """What can be asked of a device; readings that can't be had raise `Missing` with a reason."""

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked of it."""

    def reset_peaks(self) -> None:
        """Let every peak begin anew at its current value."""

    def stats(self) -> Mapping[str, int]:
        """Return the allocator's counters.

        `requested` and `requested_peak` are the bytes asked for. CUDA adds `allocated` (blocks,
        rounded to 512 B), `reserved` (segments taken from the driver) and their peaks, and the
        counts `retries` and `ooms` since the process began.
        """

    def total(self) -> int:
        """Return the device's bytes that this process holds, context and libraries included."""

    def event(self) -> DeviceEvent:
        """Return a new event of the device's clock."""


def device_meter(device: torch.device) -> DeviceMeter:
    """Return the meter of `device`; raises `Missing` for a device that is neither CPU nor CUDA."""
    if device.type == "cuda":
        return Cuda(device)
    if device.type == "cpu":
        return Cpu()
    raise Missing(f"device '{device}': only cpu and cuda can be measured")


class Cuda:
    """Reads torch's caching allocator, CUDA events and NVML; `module` stands for `torch.cuda`."""

    def __init__(self, device: torch.device, module: Any = None) -> None:
        if module is None:
            import torch

            module = torch.cuda
        module.init()  # without it the allocator's statistics are empty
        self._cuda = module
        # An index is needed to find the stream and the UUID; "cuda" means the current device.
        self._index = device.index if device.index is not None else module.current_device()

    def synchronize(self) -> None:
        """Wait for every stream of the device."""
        self._cuda.synchronize(self._index)

    def reset_peaks(self) -> None:
        """Reset the allocator's peaks; what is allocated stays, so a warm-up's blocks count on."""
        self._cuda.reset_peak_memory_stats(self._index)

    def stats(self) -> Mapping[str, int]:
        """Return the caching allocator's counters; raises `Missing` where another one allocates.

        With `cudaMallocAsync`, and with caching turned off, torch reports requested bytes as 0:
        neither may pass for a reading.
        """
        backend = self._cuda.get_allocator_backend()
        if backend != "native":
            raise Missing(f"the CUDA allocator is '{backend}', which doesn't count requested bytes")
        if _UNCACHED in os.environ:
            raise Missing(f"{_UNCACHED} is set, so the CUDA allocator counts nothing")
        found = self._cuda.memory_stats(self._index)
        if "requested_bytes.all.current" not in found:
            raise Missing("this torch's CUDA allocator doesn't report requested bytes")
        sizes = {
            f"{name}{suffix}": int(found[f"{name}_bytes.all.{which}"])
            for name in ("requested", "allocated", "reserved")
            for suffix, which in (("", "current"), ("_peak", "peak"))
        }
        counts = {"retries": int(found["num_alloc_retries"]), "ooms": int(found["num_ooms"])}
        return sizes | counts

    def total(self) -> int:
        """Return NVML's bytes of this process on the device; raises `Missing`.

        The device is found by its UUID, as CUDA_VISIBLE_DEVICES renumbers, and the process by its
        number, which NVML of older drivers gives as seen from outside a container.
        """
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            raise Missing("NVML: pynvml isn't installed (pip install 'sketchbench[gpu]')") from None
        try:
            nvml.nvmlInit()
            handle = _nvml_handle(nvml, str(self._cuda.get_device_properties(self._index).uuid))
            listed = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except nvml.NVMLError as error:
            raise Missing(f"NVML: {' '.join(str(error).split())}") from None
        process = os.getpid()
        used = [each.usedGpuMemory for each in listed if each.pid == process]
        if not used:
            raise Missing(
                f"NVML doesn't list process {process} on this device; in a container it may know "
                "it by another number"
            )
        if any(size is None for size in used):
            raise Missing("NVML lists this process, but the driver doesn't tell its memory")
        # On MIG a process is listed once for each compute instance that it uses.
        return int(sum(used))

    def event(self) -> DeviceEvent:
        """Return a CUDA event of the device's current stream."""
        return _CudaEvent(self._cuda, self._index)


class _CudaEvent:
    """An event of the stream that is current where it is recorded.

    Work on other streams that this one doesn't wait for lies outside its seconds.
    """

    def __init__(self, module: Any, index: int) -> None:
        self._cuda = module
        self._index = index
        self._event = module.Event(enable_timing=True)

    def record(self) -> None:
        # Without a stream torch would take that of the current device, which may be another one.
        self._event.record(self._cuda.current_stream(self._index))

    def seconds_until(self, other: _CudaEvent) -> float:
        return float(self._event.elapsed_time(other._event)) / 1e3


def _nvml_handle(nvml: Any, uuid: str) -> Any:
    """Return NVML's handle of the GPU, or of the MIG instance, with torch's `uuid`."""
    bare = uuid.removeprefix("GPU-").removeprefix("MIG-")
    try:
        return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{bare}")
    except nvml.NVMLError:
        return nvml.nvmlDeviceGetHandleByUUID(f"MIG-{bare}")


class Cpu:
    """Reads the process's own CPU allocator and the host's clock.

    Only blocks made since `cpu_allocator.install()` was first called in this process are counted.
    """

    def synchronize(self) -> None:
        """Return at once: the CPU has done what it returned from."""

    def reset_peaks(self) -> None:
        """Reset the allocator's peak; raises `Missing` where the allocator can't be wrapped."""
        _cpu_counters().reset_peak()

    def stats(self) -> Mapping[str, int]:
        """Return requested bytes and their peak; raises `Missing` as `reset_peaks` does."""
        counters = _cpu_counters()
        return {"requested": counters.current(), "requested_peak": counters.peak()}

    def total(self) -> int:
        """Raise `Missing`: resident memory mixes tensors with the interpreter and its libraries."""
        raise Missing("the CPU has no device memory of its own")

    def event(self) -> DeviceEvent:
        """Return an event of the host's clock."""
        return _HostEvent()


class _HostEvent:
    def __init__(self) -> None:
        self._at = 0.0

    def record(self) -> None:
        self._at = time.perf_counter()

    def seconds_until(self, other: _HostEvent) -> float:
        return other._at - self._at


def _cpu_counters() -> Counters:
    # Imported late: what measures CUDA needs nothing of it.
    from sketchbench.measure.cpu_allocator import install

    return install()


class Scripted:
    """Replays given readings, for tests of what reads a meter; a `Missing` among them is raised.

    `seconds` are those between events, in the order in which they are asked for. `calls` lists
    what was called.
    """

    def __init__(
        self,
        stats: Sequence[Mapping[str, int] | Missing] = (),
        seconds: Sequence[float] = (),
        totals: Sequence[int | Missing] = (),
    ) -> None:
        self.calls: list[str] = []
        self._stats, self._totals, self._seconds = iter(stats), iter(totals), iter(seconds)

    def synchronize(self) -> None:
        """Note the call."""
        self.calls.append("synchronize")

    def reset_peaks(self) -> None:
        """Note the call."""
        self.calls.append("reset_peaks")

    def stats(self) -> Mapping[str, int]:
        """Return the next statistics; raises `LookupError` when all have been read."""
        found: Mapping[str, int] = self._next("stats", self._stats)
        return found

    def total(self) -> int:
        """Return the next total; raises `LookupError` when all have been read."""
        return int(self._next("total", self._totals))

    def event(self) -> DeviceEvent:
        """Return an event that is the next of `seconds` before any other."""
        return _ScriptedEvent(self)

    def _next(self, name: str, readings: Iterator[Any]) -> Any:
        self.calls.append(name)
        reading = next(readings, None)
        if reading is None:
            raise LookupError(f"Scripted: no reading of '{name}' is left; give it one more")
        if isinstance(reading, Missing):
            raise reading
        return reading


class _ScriptedEvent:
    def __init__(self, meter: Scripted) -> None:
        self._meter = meter

    def record(self) -> None:
        self._meter.calls.append("record")

    def seconds_until(self, other: _ScriptedEvent) -> float:
        return float(self._meter._next("seconds_until", self._meter._seconds))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that memory ran out, on the host or on the device."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    torch = sys.modules.get("torch")  # an error of torch's can't be there without torch
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return True
    return any(said in str(error) for said in _OUT_OF_MEMORY)
