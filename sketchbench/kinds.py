"""The kinds of recipe, and the protocols of what they build.

Three families of sketch, told apart by what they see: an `ActivationSketch` sees what autograd
would keep, a `CovarianceSketch` a stream of rows, a `GradientSketch` one flat vector.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from sketchbench.metric import Metric
from sketchbench.protocols import (
    CovarianceEstimate,
    Guarantee,
    LinearSketch,
    SketchedModel,
    Watcher,
)
from sketchbench.recipe import Recipe

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor, nn

    from sketchbench.run import Run


# ---------------------------------------------------------------- three families of sketch


class GradientSketch(Recipe):
    """Sketches gradients or Hessian-vector products, as flat vectors."""

    kind = "gradient_sketch"

    @abstractmethod
    def build(self, size: int, rng: Generator, device: torch.device) -> LinearSketch:
        """Draw a sketch of vectors of `size` on the CPU from `rng`, then move it to `device`."""

    def build_named(
        self, sizes: Mapping[str, int], rng: Generator, device: torch.device
    ) -> LinearSketch:
        """Draw a sketch of named parameters, joined in the order of `sizes`.

        Overridden by what selects parameters; to all others their names are nothing.
        """
        return self.build(sum(sizes.values()), rng, device)

    def guarantee(self, size: int) -> Guarantee | None:
        """Return what it promises of vectors of `size`, or None where it promises nothing."""
        return None

    def state_bytes(self, size: int) -> int | None:
        """Return the bytes that a sketch of vectors of `size` holds; None if it declares none."""
        return None


class CovarianceSketch(Recipe):
    """Sketches a second-moment matrix from the rows streaming past."""

    kind = "covariance_sketch"

    @property
    def decay(self) -> float:
        """β: an update makes of C the matrix βC + Σaaᵀ. 1 sums all rows."""
        return 1.0

    @property
    def sandwich(self) -> bool:
        """Whether `dense() − tail·I ⪯ C ⪯ dense()` is promised, to rounding.

        Which adds up over updates: it may be 1/(1 − decay) times that of one, T times in a sum.
        """
        return False

    @abstractmethod
    def build(self, size: int, device: torch.device) -> CovarianceEstimate:
        """Start an empty estimate of a (size, size) matrix."""


class ActivationSketch(Recipe):
    """Replaces what autograd would have stored for the backward pass."""

    kind = "activation_sketch"

    @abstractmethod
    def build(self, model: nn.Module, batch_size: int, rng: Generator) -> SketchedModel:
        """Return `model` sketched, sharing its parameters; raise `Skip` where it can't be."""

    def break_even(self, width: int) -> int | None:
        """Return the smallest batch (rows) from which it keeps fewer bytes than exact training.

        Kept for the backward pass, in a stack of hidden layers of that width with ReLU, in
        float32; None where it doesn't claim to save memory there.
        """
        return None


class Monitor(Recipe):
    """Watches exact training, the first of every `period` steps, and changes nothing of it."""

    kind = "monitor"

    @abstractmethod
    def build(self, model: nn.Module, batch_size: int, rng: Generator) -> Watcher:
        """Hook the linear layers of `model`, which is on its device; raise `Skip` without any."""


# ---------------------------------------------------------------- optimizers, models, tasks


class Optimizer(Recipe):
    """Builds a `torch.optim.Optimizer`; torch's protocol is ours."""

    kind = "optimizer"

    @abstractmethod
    def build(self, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Return the optimizer of `params`.

        Its attribute `state_parts`, if it has one, maps keys of its state to the parts in which
        memory is reported: `momentum`, `second_moment`, `preconditioner`, `sketch`, `graft`, or
        others in lower case with underscores, which reports show as blanks. Keys that it doesn't
        map (step counters, say) are the `rest`. Its method `escaped_shares`, if it has one, returns
        ρ / (ρ + trace of what is held) of each second moment that it sketches, (sketches,) and on
        the CPU: what `escaped_share` reports of training.
        """

    def state_bytes(self, params: Sequence[nn.Parameter]) -> Mapping[str, int] | None:
        """Return the bytes of state on the parameters' device after a full period, by part.

        None where it declares nothing.
        """
        return None

    def break_even(self, shape: tuple[int, ...]) -> int | None:
        """Return the largest rank at which it keeps no more of a parameter than Adam's moment.

        Compared with Adam's second moment, a copy of the parameter, whose `shape` has two axes or
        more, are the bytes of all parts but `momentum`, `graft` and `rest`. Both are counted in
        numbers, as if of one precision: of bfloat16 parameters, whose state is of float32 in part,
        the rank at which bytes break even is lower. 0 where any rank takes more; None where it has
        no `rank`.
        """
        return None


@dataclass(frozen=True)
class Shapes:
    """What a model must fit: one example's shape, and the output width."""

    inputs: tuple[int, ...]
    outputs: int


@dataclass(frozen=True)
class Split:
    """All examples of one split, on the CPU: inputs (n, ...), targets (n, ...)."""

    inputs: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> Split:
        """Return the split on `device`."""
        return Split(self.inputs.to(device), self.targets.to(device))


class Task(Recipe):
    """Data and the loss that goes with it."""

    kind = "task"

    @property
    @abstractmethod
    def shapes(self) -> Shapes:
        """The shape of one example and the width of the output."""

    def prepare(self, progress: Callable[[str], None]) -> None:
        """Fetch and verify what `load` reads, once a suite; raise `Skip` if it can't be had."""

    @abstractmethod
    def load(self, split: Literal["train", "test"]) -> Split:
        """Return one split on the CPU; raise `Skip` if the data is missing."""

    def transform(self, inputs: Tensor, rng: Generator, step: int) -> Tensor:
        """Augment the training batch (n, ...) of `step`; the identity unless a task says otherwise.

        Steps count from 0. Test data isn't transformed.
        """
        return inputs

    def order(self, targets: Tensor, rng: Generator) -> Tensor:
        """Return the order (n,) in which one epoch visits the training examples: a permutation.

        Uniform unless a task says otherwise (classes one after another, say); `targets` are the
        split's, on the CPU.
        """
        import torch

        return torch.randperm(len(targets), generator=rng)

    def blank(self, split: Literal["train", "test"]) -> Split:
        """Return a split of the right shapes and types whose values mean nothing.

        What a prediction of memory needs of the data; overridden where no data need be read.
        """
        import torch

        found = self.load(split)
        return Split(torch.zeros_like(found.inputs), torch.zeros_like(found.targets))

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss over the batch, a scalar."""


class Model(Recipe):
    """Builds a module that fits a task's shapes."""

    kind = "model"

    @abstractmethod
    def build(self, shapes: Shapes) -> nn.Module:
        """Return a new module; weights come from torch's global generator, seeded by the caller."""


# ---------------------------------------------------------------- workloads


class Workload(Recipe):
    """An experiment. Its fields are its slots (recipes that it consumes) and numbers."""

    kind = "workload"
    regions: ClassVar[tuple[str, ...]] = ("step",)
    outcomes: ClassVar[Mapping[str, type]] = {}

    @abstractmethod
    def run(self, run: Run) -> None:
        """Do the experiment; report through `run.region` and `run.deliver`."""


KINDS: Mapping[str, type[Recipe]] = {
    kind.kind: kind
    for kind in (
        ActivationSketch,
        CovarianceSketch,
        GradientSketch,
        Monitor,
        Optimizer,
        Model,
        Task,
        Metric,
        Workload,
    )
}
