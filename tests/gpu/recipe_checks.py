"""Every registered recipe of five kinds, beside itself on the CPU: one seed, one result."""

from __future__ import annotations

from register import check


@check()
def gradient_sketches_beside_the_CPU() -> str:
    return _compared("gradient_sketch")


@check()
def covariance_sketches_beside_the_CPU() -> str:
    return _compared("covariance_sketch")


@check()
def activation_sketches_beside_the_CPU() -> str:
    return _compared("activation_sketch")


@check()
def monitors_beside_the_CPU() -> str:
    return _compared("monitor")


@check()
def optimizers_beside_the_CPU() -> str:
    return _compared("optimizer")


def _compared(kind: str) -> str:
    import torch
    from recipes import compared

    return compared(kind, torch.device("cuda"))
