"""Dense baselines and controls: what every sketch is measured against."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sketchbench import (
    ActivationSketch,
    CovarianceSketch,
    GradientSketch,
    Monitor,
    Optimizer,
    hookimpl,
)
from sketchbench_dense.checkpoint import Checkpoint
from sketchbench_dense.controls import RandomGradient, ZeroGradient
from sketchbench_dense.covariance import ExactCovariance
from sketchbench_dense.fastfood import Fastfood, SignedFastfood
from sketchbench_dense.galore import GaLore
from sketchbench_dense.hashing import SJLT, CountSketch
from sketchbench_dense.johnson_lindenstrauss import FJL
from sketchbench_dense.micro_batch import MicroBatch
from sketchbench_dense.monitors import GradNormExact, GradSnapshots
from sketchbench_dense.muon import Muon
from sketchbench_dense.optimizers import SGD, Adafactor, Adagrad, Adam, AdamW
from sketchbench_dense.peers import DattriBasic, TrakBasic
from sketchbench_dense.projections import Gaussian, Rademacher
from sketchbench_dense.selection import LayerSelection, RandomMask
from sketchbench_dense.shampoo import Shampoo
from sketchbench_dense.soap import SOAP

__all__ = [
    "FJL",
    "SGD",
    "SJLT",
    "SOAP",
    "Adafactor",
    "Adagrad",
    "Adam",
    "AdamW",
    "Checkpoint",
    "CountSketch",
    "DattriBasic",
    "ExactCovariance",
    "Fastfood",
    "GaLore",
    "Gaussian",
    "GradNormExact",
    "GradSnapshots",
    "LayerSelection",
    "MicroBatch",
    "Muon",
    "Rademacher",
    "RandomGradient",
    "RandomMask",
    "Shampoo",
    "SignedFastfood",
    "TrakBasic",
    "ZeroGradient",
    "register_monitors",
    "register_optimizers",
    "register_sketches",
]


@hookimpl
def register_sketches() -> Sequence[
    type[ActivationSketch] | type[CovarianceSketch] | type[GradientSketch]
]:
    """Return the baselines and controls of all three families."""
    return [
        Checkpoint,
        MicroBatch,
        ZeroGradient,
        RandomGradient,
        ExactCovariance,
        Gaussian,
        Rademacher,
        Fastfood,
        SignedFastfood,
        FJL,
        CountSketch,
        SJLT,
        LayerSelection,
        RandomMask,
        TrakBasic,
        DattriBasic,
    ]


@hookimpl
def register_monitors() -> Sequence[type[Monitor]]:
    """Return the monitors that sketch nothing: norms, and the gradients themselves."""
    return [GradNormExact, GradSnapshots]


@hookimpl
def register_optimizers() -> Sequence[type[Optimizer]]:
    """Return torch's own optimizers, Muon where this torch has it (2.9 and later), and rivals."""
    found: list[type[Optimizer]] = [SGD, Adam, AdamW, Adagrad, Adafactor, Shampoo, SOAP, GaLore]
    return [*found, Muon] if hasattr(torch.optim, "Muon") else found
