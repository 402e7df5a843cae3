"""Memory: the live bytes of a region, and what its device's allocator says of it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sketchbench.measure.device import DeviceMeter, device_meter
from sketchbench.measure.ledger import Footprint
from sketchbench.measure.live_bytes import LiveBytes
from sketchbench.protocols import Missing, Watched

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Usage:
    """What one occurrence of a region used.

    `before` and `after` are the allocator's statistics at its edges, in bytes; where they can't
    be had, `why` says so. `total_bytes` is the device's own figure for the whole process.
    """

    footprint: Footprint
    before: Mapping[str, int] = field(default_factory=dict)
    after: Mapping[str, int] = field(default_factory=dict)
    why: str = ""
    total_bytes: int | None = None
    why_no_total: str = ""

    @property
    def other_bytes(self) -> int:
        """Bytes requested of the allocator before the region that the region never touches."""
        return self._stat(self.before, "requested") - self.footprint.start

    @property
    def requested_peak(self) -> int:
        """The allocator's peak of requested bytes, less `other_bytes`; raises `Missing`."""
        return self._stat(self.after, "requested_peak") - self.other_bytes

    def peak(self, name: str) -> int:
        """Return the allocator's peak of `allocated` or `reserved` bytes; raises `Missing`."""
        return self._stat(self.after, f"{name}_peak")

    def _stat(self, stats: Mapping[str, int], name: str) -> int:
        if self.why:
            raise Missing(self.why)
        if name not in stats:
            raise Missing(f"this device's allocator has no '{name.removesuffix('_peak')}' bytes")
        return stats[name]


class Memory:
    """Reads live bytes and the allocator's peaks of one region, in one go.

    The device waits at both edges, and the allocator's peaks are reset after what is watched has
    been counted, so that the meters see the same work.
    """

    def __init__(
        self, device: torch.device, watched: Watched, meter: DeviceMeter | None = None
    ) -> None:
        self._live = LiveBytes(device, watched)
        self._device = meter or device_meter(device)
        self._before: Mapping[str, int] = {}
        self._why = ""

    @staticmethod
    def prepare(device: torch.device) -> None:
        """Let the device's allocator count from now on: what is made earlier it can't know."""
        with suppress(Missing):
            device_meter(device).stats()

    def start(self) -> None:
        """Begin a reading."""
        self._live.start()
        try:
            self._device.synchronize()
            self._before, self._why = {}, ""
            try:
                self._device.reset_peaks()
                self._before = self._device.stats()
            except Missing as reason:
                self._why = str(reason)
        except BaseException:
            self._live.stop()  # its mode and its hooks mustn't outlive the failure
            raise

    def stop(self) -> Usage:
        """End it and return what was used."""
        after: Mapping[str, int] = {}
        total, why_no_total = None, ""
        try:
            self._device.synchronize()
            if not self._why:
                after = self._device.stats()
            try:
                total = self._device.total()
            except Missing as reason:
                why_no_total = str(reason)
        finally:
            footprint = self._live.stop()
        return Usage(footprint, self._before, after, self._why, total, why_no_total)
