"""The clock: wall, process CPU and device time of a region."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from sketchbench.measure.device import DeviceMeter, device_meter
from sketchbench.protocols import Watched

if TYPE_CHECKING:
    import torch


class Elapsed(NamedTuple):
    """What one occurrence of a region took, in seconds; `device` is None on the CPU."""

    wall: float
    cpu: float
    device: float | None = None


class Clock:
    """Reads wall and CPU seconds of the host and, on CUDA, the device's seconds.

    On CUDA it waits for the device once at each edge, and the device's seconds lie between two
    events inside: waits for the host among them, but not the last wait for the device.
    """

    def __init__(
        self, device: torch.device, watched: Watched, meter: DeviceMeter | None = None
    ) -> None:
        self._meter: DeviceMeter | None = None
        if device.type != "cpu":
            self._meter = meter or device_meter(device)
            self._first, self._last = self._meter.event(), self._meter.event()
        self._wall = self._cpu = 0.0

    def start(self) -> None:
        """Begin; the CPU clock is read first, so that its own cost falls outside the wall time."""
        if self._meter is not None:
            self._meter.synchronize()
        self._cpu = time.process_time()
        self._wall = time.perf_counter()
        if self._meter is not None:
            self._first.record()

    def stop(self) -> Elapsed:
        """Return the seconds since `start`, of all threads of this process for CPU time."""
        if self._meter is None:
            wall = time.perf_counter() - self._wall
            return Elapsed(wall, time.process_time() - self._cpu)
        self._last.record()
        self._meter.synchronize()
        wall = time.perf_counter() - self._wall
        cpu = time.process_time() - self._cpu
        return Elapsed(wall, cpu, self._first.seconds_until(self._last))
