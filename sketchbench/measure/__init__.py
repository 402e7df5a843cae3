"""Instruments: each is opened once a region and read by any number of probes.

A public door, and a lazy one: clocks need no torch, and a plugin's `category` needs no compiler.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sketchbench.measure.caching_allocator import Simulated, simulate
    from sketchbench.measure.clock import Clock, Elapsed
    from sketchbench.measure.contention import Contention
    from sketchbench.measure.device import (
        Cpu,
        Cuda,
        DeviceEvent,
        DeviceMeter,
        Scripted,
        device_meter,
        is_out_of_memory,
    )
    from sketchbench.measure.flop_formulas import hadamard_flops, kronecker_flops
    from sketchbench.measure.flops import FlopCount, Flops, counted, register
    from sketchbench.measure.keeping import Keeping, Keepings, Kept
    from sketchbench.measure.labels import category, labelling
    from sketchbench.measure.ledger import CATEGORIES, Block, Footprint
    from sketchbench.measure.live_bytes import LiveBytes
    from sketchbench.measure.memory import Memory, Usage
    from sketchbench.measure.storages import state_bytes

_ROOMS = {
    "caching_allocator": ("Simulated", "simulate"),
    "clock": ("Clock", "Elapsed"),
    "contention": ("Contention",),
    "device": (
        "Cpu",
        "Cuda",
        "DeviceEvent",
        "DeviceMeter",
        "Scripted",
        "device_meter",
        "is_out_of_memory",
    ),
    "flop_formulas": ("hadamard_flops", "kronecker_flops"),
    "flops": ("FlopCount", "Flops", "counted", "register"),
    "keeping": ("Keeping", "Keepings", "Kept"),
    "ledger": ("CATEGORIES", "Block", "Footprint"),
    "labels": ("category", "labelling"),
    "live_bytes": ("LiveBytes",),
    "storages": ("state_bytes",),
    "memory": ("Memory", "Usage"),
}

__all__ = [
    "CATEGORIES",
    "Block",
    "Clock",
    "Contention",
    "Cpu",
    "Cuda",
    "DeviceEvent",
    "DeviceMeter",
    "Elapsed",
    "FlopCount",
    "Flops",
    "Footprint",
    "Keeping",
    "Keepings",
    "Kept",
    "LiveBytes",
    "Memory",
    "Scripted",
    "Simulated",
    "Usage",
    "category",
    "counted",
    "device_meter",
    "hadamard_flops",
    "is_out_of_memory",
    "kronecker_flops",
    "labelling",
    "register",
    "simulate",
    "state_bytes",
]


def __getattr__(name: str) -> Any:
    room = next((room for room, names in _ROOMS.items() if name in names), None)
    if room is None:
        raise AttributeError(f"module 'sketchbench.measure' has no attribute '{name}'")
    return getattr(importlib.import_module(f"sketchbench.measure.{room}"), name)
