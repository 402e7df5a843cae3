"""The clock: wall and process CPU time of a region."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


class Elapsed(NamedTuple):
    """What one occurrence of a region took, in seconds."""

    wall: float
    cpu: float


class Clock:
    """Reads wall and CPU seconds; on CUDA it waits for the device at both edges of the region."""

    def __init__(self, device: torch.device) -> None:
        self._wait = None
        if device.type == "cuda":
            import torch

            self._wait = lambda: torch.cuda.synchronize(device)
        self._wall = self._cpu = 0.0

    def start(self) -> None:
        """Begin; the CPU clock is read first, so that its own cost falls outside the wall time."""
        if self._wait:
            self._wait()
        self._cpu = time.process_time()
        self._wall = time.perf_counter()

    def stop(self) -> Elapsed:
        """Return the seconds since `start`, of all threads of this process for CPU time."""
        if self._wait:
            self._wait()
        wall = time.perf_counter() - self._wall
        return Elapsed(wall, time.process_time() - self._cpu)
