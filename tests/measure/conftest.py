"""What stands for `torch.cuda` where there is no GPU."""

from __future__ import annotations

import types

import pytest
import torch

from sketchbench.measure.caching_allocator import CachingAllocator, OutOfMemory

UUID = "5d9cb1f4-2f0d-4d5e-9a7c-3f1f6f0e8a11"


class Event:
    """Marks a point of the queue; its time is known once the device has been waited for."""

    def __init__(self, cuda: CudaStandIn, enable_timing: bool) -> None:
        self._cuda = cuda
        self._timed = enable_timing
        self.at: float | None = None

    def record(self, stream: str) -> None:
        self._cuda.calls.append(f"record on {stream}")
        self.at = self._cuda.queued

    def elapsed_time(self, other: Event) -> float:
        """Return milliseconds, as torch does."""
        if not (self._timed and other._timed):
            raise RuntimeError("Both events must be created with argument 'enable_timing=True'.")
        if self.at is None or other.at is None or max(self.at, other.at) > self._cuda.done:
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        return 1e3 * (other.at - self.at)


class CudaStandIn:
    """One device with a caching allocator, a queue of work, and a list of what was called.

    Its blocks and segments are those of the simulated allocator. `queued` and `done` are the
    device's seconds of work asked for, and finished at the last wait.
    """

    def __init__(self, capacity: int | None = None) -> None:
        self.calls: list[str] = []
        self.backend = "native"
        self.initialised = False
        self.queued = self.done = 0.0
        self.retries = self.ooms = 0
        self.allocator = CachingAllocator(capacity)
        self.without: tuple[str, ...] = ()  # statistics that this torch doesn't have

    # ------------------------------------------------ what a program does on the device

    def allocate(self, size: int) -> object:
        """Return a block; raise torch's own error where the device is full."""
        self.calls.append("allocate")
        before = self._segments()
        try:
            block = self.allocator.allocate(size)
        except OutOfMemory as full:
            self.retries += 1
            self.ooms += 1
            raise torch.OutOfMemoryError(f"CUDA out of memory. {full}") from None
        self.retries += not before <= self._segments()  # some were given back to make room
        return block

    def free(self, block: object) -> None:
        self.calls.append("free")
        self.allocator.free(block)

    def work(self, seconds: float) -> None:
        """Queue a kernel and return at once."""
        self.calls.append("work")
        self.queued += seconds

    # ------------------------------------------------ torch.cuda

    def init(self) -> None:
        self.initialised = True

    def current_device(self) -> int:
        return 0

    def current_stream(self, device: int) -> str:
        return f"cuda:{device}"

    def Event(self, enable_timing: bool = False) -> Event:
        return Event(self, enable_timing)

    def synchronize(self, device: int) -> None:
        self.calls.append("synchronize")
        self.done = self.queued

    def get_allocator_backend(self) -> str:
        return self.backend

    def reset_peak_memory_stats(self, device: int) -> None:
        self.calls.append("reset")
        for gauge in self._gauges().values():
            gauge.peak = gauge.now

    def memory_stats(self, device: int) -> dict[str, int]:
        """Return the statistics; another backend reports requested bytes as 0, as torch's does."""
        self.calls.append("stats")
        if not self.initialised:
            return {}
        found = {"num_alloc_retries": self.retries, "num_ooms": self.ooms}
        for name, gauge in self._gauges().items():
            known = name != "requested" or self.backend == "native"
            found[f"{name}_bytes.all.current"] = gauge.now if known else 0
            found[f"{name}_bytes.all.peak"] = gauge.peak if known else 0
        return {key: value for key, value in found.items() if not key.startswith(self.without)}

    def get_device_properties(self, device: int) -> object:
        return types.SimpleNamespace(uuid=UUID)

    def _segments(self) -> set[int]:
        return {blocks[0].address for blocks in self.allocator.segments()}

    def _gauges(self):
        allocator = self.allocator
        return {
            "requested": allocator.requested,
            "allocated": allocator.allocated,
            "reserved": allocator.reserved,
        }


@pytest.fixture
def cuda_stand_in(monkeypatch) -> type[CudaStandIn]:
    """Return the class: each test makes its own device, with the capacity that it needs."""
    monkeypatch.delenv("PYTORCH_NO_CUDA_MEMORY_CACHING", raising=False)
    return CudaStandIn
