"""Probes of memory: live bytes by what they are for, and the allocator's own peaks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from sketchbench import Missing, Probe
from sketchbench.measure import Memory, Usage


class _Bytes(Probe):
    meter = Memory
    stage = "audit"
    regions: ClassVar[tuple[str, ...]] = ("step", "build")
    unit = "bytes"
    direction = "lower"
    margin = 0.01
    relative = True

    @abstractmethod
    def sample(self, reading: Usage) -> float:
        """Return one occurrence's bytes."""

    def made_of(self, reading: Usage) -> Mapping[str, int]:
        """Return what one occurrence's bytes are made of."""
        return {}

    def summarise(self, readings: Sequence[Usage]) -> Mapping[str, float]:
        """Return the most of any occurrence, with its parts."""
        most = max(readings, key=self.sample)
        return {"value": self.sample(most), **self.made_of(most)}


class PeakBytes(_Bytes):
    """Most bytes that a region keeps alive at once, on its device, by what they are for.

    Whole storages of tensors; see `sketchbench.measure.live_bytes`. Scratch memory inside kernels
    is not in it: that is `workspace_bytes`.
    """

    name = "peak_bytes"
    breakdown = True

    def sample(self, reading: Usage) -> float:
        """Return the peak of live bytes."""
        return reading.footprint.peak

    def made_of(self, reading: Usage) -> Mapping[str, int]:
        """Return the categories at the peak; they add up to it."""
        return reading.footprint.at_peak


class ActivationBytes(_Bytes):
    """Bytes kept for the backward pass: born in forward, alive when a backward pass begins.

    However they are kept: as saved tensors, as attributes of an autograd context, or by the model.
    Sketches count, whatever they replace. The largest backward pass of the region.
    """

    name = "activation_bytes"
    regions = ("step",)

    def sample(self, reading: Usage) -> float:
        """Return the bytes kept, activations and sketches."""
        return sum(reading.footprint.kept.values())

    def made_of(self, reading: Usage) -> Mapping[str, int]:
        """Return activations and sketches."""
        return reading.footprint.kept


class SketchBytes(_Bytes):
    """Most bytes alive at once of what a plugin made as its sketch (`category("sketch")`)."""

    name = "sketch_bytes"

    def sample(self, reading: Usage) -> float:
        """Return the most bytes of sketches at any time."""
        return reading.footprint.highest.get("sketches", 0)


class StateBytes(_Bytes):
    """Bytes of the optimizer's state at the end of a step, in the parts that it declares."""

    name = "state_bytes"
    regions = ("step",)
    breakdown = True

    def sample(self, reading: Usage) -> float:
        """Return all bytes of state."""
        return sum(reading.footprint.state.values())

    def made_of(self, reading: Usage) -> Mapping[str, int]:
        """Return the declared parts."""
        return reading.footprint.state


class RequestedBytes(_Bytes):
    """Most bytes requested of the device's allocator, less what the region never touches.

    CUDA: the caching allocator's requested bytes. CPU: those of torch's allocator, counted where
    a C++ compiler can build the counter. Part `other` is what was alive before and is untouched.
    """

    name = "requested_bytes"

    def sample(self, reading: Usage) -> float:
        """Return the peak; raises `Missing` where the allocator's figures can't be had."""
        return reading.requested_peak

    def made_of(self, reading: Usage) -> Mapping[str, int]:
        """Return the bytes of other things that were taken off."""
        return {"other": reading.other_bytes}


class _AllocatorPeak(_Bytes):
    peak: ClassVar[str]

    def sample(self, reading: Usage) -> float:
        """Return the peak; raises `Missing` off CUDA."""
        return reading.peak(self.peak)


class AllocatedBytes(_AllocatorPeak):
    """Peak of the CUDA caching allocator's blocks: requests rounded up, everything counted."""

    name = "allocated_bytes"
    peak = "allocated"


class ReservedBytes(_AllocatorPeak):
    """Peak of the segments that the CUDA caching allocator holds, in use or not."""

    name = "reserved_bytes"
    peak = "reserved"

    def made_of(self, reading: Usage) -> Mapping[str, int]:
        """Return how often allocation was retried after freeing the cache."""
        return {name: reading.after[name] for name in ("retries",) if name in reading.after}


class DeviceTotalBytes(_Bytes):
    """What NVML says this process holds on its GPU: context and libraries included."""

    name = "device_total_bytes"

    def sample(self, reading: Usage) -> float:
        """Return the figure at the region's end; raises `Missing` where NVML has none."""
        if reading.total_bytes is None:
            raise Missing(reading.why_no_total)
        return reading.total_bytes


class WorkspaceBytes(_Bytes):
    """Scratch memory below torch's dispatcher: the allocator's peak less that of live bytes.

    QR, SVD and convolutions have theirs there, which no tensor shows. The most of any occurrence.
    """

    name = "workspace_bytes"
    margin = 65536.0  # bytes: kernels pad and align by less
    relative = False

    def sample(self, reading: Usage) -> float:
        """Return the difference; raises `Missing` where the allocator's figure can't tell it."""
        found = reading.requested_peak - reading.footprint.peak
        if found < 0:
            raise Missing(
                f"the allocator's peak is {-found} bytes below that of live bytes: the region "
                "freed memory that it never touched, or used some that isn't the allocator's"
            )
        return found
