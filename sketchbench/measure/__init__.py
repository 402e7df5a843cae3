"""Instruments: each is opened once a region and read by any number of probes."""

from sketchbench.measure.clock import Clock, Elapsed

__all__ = ["Clock", "Elapsed"]
