"""What sketchbench ships itself: it enters through the same door as any plugin."""

from __future__ import annotations

from collections.abc import Sequence

from sketchbench import Metric, Model, Task, Workload, hookimpl
from sketchbench.builtin.metrics.approximation import RelativeError
from sketchbench.builtin.metrics.flops import BuildFlops, StepFlops
from sketchbench.builtin.metrics.gradients import (
    Cosine,
    EffectiveRank,
    GradientBias,
    GradientCosine,
    GradientVariance,
    MeanGradientError,
    StableRank,
)
from sketchbench.builtin.metrics.memory import (
    ActivationBytes,
    AllocatedBytes,
    DeviceTotalBytes,
    PeakBytes,
    RequestedBytes,
    ReservedBytes,
    SketchBytes,
    StateBytes,
    WorkspaceBytes,
)
from sketchbench.builtin.metrics.monitoring import (
    DetectionDelay,
    FalseAlarms,
    LogCorrelation,
    MonitorBytes,
    RankCorrelation,
)
from sketchbench.builtin.metrics.predictions import Accuracy, Loss
from sketchbench.builtin.metrics.reconstruction import (
    ReconstructionError,
    SettlingSteps,
    TailRatio,
)
from sketchbench.builtin.metrics.recovery import RecoveryHalfLife
from sketchbench.builtin.metrics.relative_l2 import RelativeL2
from sketchbench.builtin.metrics.skill import Skill
from sketchbench.builtin.metrics.target import TimeToTarget
from sketchbench.builtin.metrics.timing import BuildTime, StepTime
from sketchbench.builtin.models.hybrid_cnn import HybridCNN
from sketchbench.builtin.models.mlp import MLP
from sketchbench.builtin.models.pinn import PINN
from sketchbench.builtin.models.resnet import ResNet20
from sketchbench.builtin.models.transformer import GPT
from sketchbench.builtin.tasks.cifar10 import CIFAR10
from sketchbench.builtin.tasks.digits import Digits
from sketchbench.builtin.tasks.mnist import MNIST
from sketchbench.builtin.tasks.planted import SyntheticPlanted
from sketchbench.builtin.tasks.poisson import Poisson
from sketchbench.builtin.tasks.shifted import Shifted
from sketchbench.builtin.tasks.text import TinyShakespeare
from sketchbench.builtin.tasks.tokens import RandomTokens
from sketchbench.builtin.workloads.coherence import Coherence, Incoherence
from sketchbench.builtin.workloads.distortion import Distortion
from sketchbench.builtin.workloads.gradients import GradientQuality
from sketchbench.builtin.workloads.monitor import Monitored
from sketchbench.builtin.workloads.reconstruction import Reconstruction
from sketchbench.builtin.workloads.train import Train


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Return the built-in tasks."""
    return [
        CIFAR10,
        Digits,
        MNIST,
        Poisson,
        RandomTokens,
        Shifted,
        SyntheticPlanted,
        TinyShakespeare,
    ]


@hookimpl
def register_models() -> Sequence[type[Model]]:
    """Return the built-in models."""
    return [GPT, HybridCNN, MLP, PINN, ResNet20]


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """Return the built-in metrics."""
    return [
        Accuracy,
        ActivationBytes,
        AllocatedBytes,
        BuildFlops,
        BuildTime,
        Cosine,
        DetectionDelay,
        DeviceTotalBytes,
        EffectiveRank,
        FalseAlarms,
        GradientBias,
        GradientCosine,
        GradientVariance,
        Incoherence,
        LogCorrelation,
        Loss,
        MeanGradientError,
        MonitorBytes,
        PeakBytes,
        RankCorrelation,
        ReconstructionError,
        RecoveryHalfLife,
        RelativeError,
        RelativeL2,
        RequestedBytes,
        ReservedBytes,
        SettlingSteps,
        SketchBytes,
        Skill,
        StableRank,
        StateBytes,
        StepFlops,
        StepTime,
        TailRatio,
        TimeToTarget,
        WorkspaceBytes,
    ]


@hookimpl
def register_workloads() -> Sequence[type[Workload]]:
    """Return the built-in workloads."""
    return [Coherence, Distortion, GradientQuality, Monitored, Reconstruction, Train]
