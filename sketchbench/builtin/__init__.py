"""What sketchbench ships itself: it enters through the same door as any plugin."""

from __future__ import annotations

from collections.abc import Sequence

from sketchbench import Metric, Model, Task, Workload, hookimpl
from sketchbench.builtin.metrics.approximation import RelativeError
from sketchbench.builtin.metrics.attribution import (
    LayerPearson,
    LinearDatamodelingScore,
    Pearson,
    Spearman,
    TopKOverlap,
)
from sketchbench.builtin.metrics.covariance import (
    CovarianceError,
    EscapedMass,
    EscapedOverBound,
    EscapedShare,
    LowerViolation,
    TailShare,
    UpperViolation,
)
from sketchbench.builtin.metrics.curvature import (
    RNEG,
    BasisBytes,
    CurvatureTrace,
    ExcessOutliers,
    LeastEigenvalueError,
    NegativeMass,
    Outliers,
    OutlierShare,
    RNEGFloor,
    TopEigenvalue,
    TopEigenvalueError,
)
from sketchbench.builtin.metrics.distortion import (
    ConditionalKappa,
    FailureBound,
    FailureRate,
    InnerRMSE,
    Kappa,
    NormBias,
)
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
from sketchbench.builtin.metrics.intrinsic import (
    AccuracyMargin,
    CompressionBound,
    DimensionShare,
    SearchSteps,
    SubspaceDimension,
)
from sketchbench.builtin.metrics.linear_algebra import (
    EmbeddingDistortion,
    LowRankRatio,
    LSQRIterations,
    LSQRSaving,
    ResidualRatio,
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
from sketchbench.builtin.metrics.regret import (
    AverageRegret,
    CumulativeLoss,
    Mistakes,
    Regret,
    RegretOverBound,
)
from sketchbench.builtin.metrics.relative_l2 import RelativeL2
from sketchbench.builtin.metrics.skill import Skill
from sketchbench.builtin.metrics.spectra import IntrinsicDimension, Rotation, TopMass
from sketchbench.builtin.metrics.target import TimeToTarget
from sketchbench.builtin.metrics.throughput import CopyShare, NsPerElement
from sketchbench.builtin.metrics.timing import (
    AdjointTime,
    ApplyTime,
    BuildTime,
    CopyTime,
    StepTime,
)
from sketchbench.builtin.models.gnn import GNN
from sketchbench.builtin.models.hybrid_cnn import HybridCNN
from sketchbench.builtin.models.minilm import MiniLM
from sketchbench.builtin.models.mlp import MLP
from sketchbench.builtin.models.permuted import Permuted
from sketchbench.builtin.models.pinn import PINN
from sketchbench.builtin.models.resnet import ResNet20
from sketchbench.builtin.models.transformer import GPT
from sketchbench.builtin.models.vit import ViT
from sketchbench.builtin.tasks.a9a import A9A
from sketchbench.builtin.tasks.binary import Binary
from sketchbench.builtin.tasks.cifar10 import CIFAR10
from sketchbench.builtin.tasks.digits import Digits
from sketchbench.builtin.tasks.linear_costs import LinearCosts
from sketchbench.builtin.tasks.logistic_stream import LogisticStream
from sketchbench.builtin.tasks.mnist import MNIST
from sketchbench.builtin.tasks.parts import Half, SomeClasses
from sketchbench.builtin.tasks.planted import SyntheticPlanted
from sketchbench.builtin.tasks.poisson import Poisson
from sketchbench.builtin.tasks.shifted import Shifted
from sketchbench.builtin.tasks.solubility import Solubility
from sketchbench.builtin.tasks.speakers import Speakers
from sketchbench.builtin.tasks.text import TinyShakespeare
from sketchbench.builtin.tasks.tokens import RandomTokens
from sketchbench.builtin.tasks.vowels import JapaneseVowels
from sketchbench.builtin.workloads.attribution import Attribution
from sketchbench.builtin.workloads.coherence import Coherence, Incoherence
from sketchbench.builtin.workloads.distortion import Distortion
from sketchbench.builtin.workloads.gradients import GradientQuality
from sketchbench.builtin.workloads.hessian import HessianSpectrum
from sketchbench.builtin.workloads.implicit import ImplicitExplicit
from sketchbench.builtin.workloads.intrinsic import IntrinsicDimensionSearch
from sketchbench.builtin.workloads.linear_algebra import LinearAlgebra
from sketchbench.builtin.workloads.monitor import Monitored
from sketchbench.builtin.workloads.reconstruction import Reconstruction
from sketchbench.builtin.workloads.regret import Online
from sketchbench.builtin.workloads.spectra import GaussianControl, SpectrumProbe
from sketchbench.builtin.workloads.stream import Stream
from sketchbench.builtin.workloads.throughput import Throughput
from sketchbench.builtin.workloads.train import Train


@hookimpl
def register_tasks() -> Sequence[type[Task]]:
    """Return the built-in tasks."""
    return [
        A9A,
        Binary,
        CIFAR10,
        Digits,
        Half,
        JapaneseVowels,
        LinearCosts,
        LogisticStream,
        MNIST,
        Poisson,
        RandomTokens,
        Shifted,
        Solubility,
        SomeClasses,
        Speakers,
        SyntheticPlanted,
        TinyShakespeare,
    ]


@hookimpl
def register_models() -> Sequence[type[Model]]:
    """Return the built-in models."""
    return [GNN, GPT, HybridCNN, MLP, MiniLM, PINN, Permuted, ResNet20, ViT]


@hookimpl
def register_metrics() -> Sequence[type[Metric]]:
    """Return the built-in metrics."""
    return [
        Accuracy,
        AccuracyMargin,
        ActivationBytes,
        AdjointTime,
        AllocatedBytes,
        ApplyTime,
        AverageRegret,
        BasisBytes,
        BuildFlops,
        BuildTime,
        CompressionBound,
        ConditionalKappa,
        CopyShare,
        CopyTime,
        Cosine,
        CovarianceError,
        CumulativeLoss,
        CurvatureTrace,
        DetectionDelay,
        DeviceTotalBytes,
        DimensionShare,
        EffectiveRank,
        EmbeddingDistortion,
        EscapedMass,
        EscapedOverBound,
        EscapedShare,
        ExcessOutliers,
        FailureBound,
        FailureRate,
        FalseAlarms,
        GradientBias,
        GradientCosine,
        GradientVariance,
        Incoherence,
        InnerRMSE,
        IntrinsicDimension,
        Kappa,
        LayerPearson,
        LeastEigenvalueError,
        LinearDatamodelingScore,
        LogCorrelation,
        Loss,
        LowerViolation,
        LowRankRatio,
        LSQRIterations,
        LSQRSaving,
        MeanGradientError,
        Mistakes,
        MonitorBytes,
        NegativeMass,
        NormBias,
        NsPerElement,
        PeakBytes,
        OutlierShare,
        Outliers,
        Pearson,
        RNEG,
        RNEGFloor,
        RankCorrelation,
        ReconstructionError,
        RecoveryHalfLife,
        Regret,
        RegretOverBound,
        RelativeError,
        RelativeL2,
        RequestedBytes,
        ReservedBytes,
        ResidualRatio,
        Rotation,
        SearchSteps,
        SettlingSteps,
        SketchBytes,
        Skill,
        Spearman,
        StableRank,
        StateBytes,
        StepFlops,
        StepTime,
        SubspaceDimension,
        TailRatio,
        TailShare,
        TimeToTarget,
        TopKOverlap,
        TopEigenvalue,
        TopEigenvalueError,
        TopMass,
        UpperViolation,
        WorkspaceBytes,
    ]


@hookimpl
def register_workloads() -> Sequence[type[Workload]]:
    """Return the built-in workloads."""
    return [
        Attribution,
        Coherence,
        Distortion,
        GaussianControl,
        GradientQuality,
        HessianSpectrum,
        ImplicitExplicit,
        IntrinsicDimensionSearch,
        LinearAlgebra,
        Monitored,
        Online,
        Reconstruction,
        SpectrumProbe,
        Stream,
        Throughput,
        Train,
    ]
