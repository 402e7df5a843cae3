"""Attribution: inner products of per-example gradients, exact and through a sketch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch
from pydantic import model_validator

from sketchbench import Approximation, Field, GradientSketch, LinearSketch, Missing, Run, Split
from sketchbench.autodiff import seeded
from sketchbench.builtin.workloads.datamodel import Datamodel, retrained, whitened
from sketchbench.builtin.workloads.fitting import fit
from sketchbench.builtin.workloads.loop import Training
from sketchbench.builtin.workloads.precision import FP32
from sketchbench.curvature import gradients, sizes

if TYPE_CHECKING:
    from torch import Tensor, nn

COLUMNS = 2**16  # entries of gradients that are in double precision at a time


@dataclass(frozen=True)
class LayerPairs:
    """Outcome: exact inner products (tests, examples) of whole gradients, and of each layer's.

    A layer is a module that owns parameters; `within` maps each to its own (tests, examples),
    in the model's order, and they add up to `exact`.
    """

    exact: Tensor
    within: Mapping[str, Tensor]


class Attribution(Training):
    """Train, then compare ⟨∇L(test), ∇L(example)⟩ of pairs of examples with those of sketches.

    The scores of gradient-based attribution, at the end of training, in evaluation mode. Outcome
    `pairs`: exact and sketched ones, (draws, tests, examples) each. Outcome `layers`: exact ones of
    each layer alone, which is what selecting a layer comes to. Regions: `build` draws a sketch,
    `step` applies it to `chunk` gradients.

    With `subsets`, outcome `datamodel`: the scores, and what the test examples' losses came to
    after training on that many random subsets, for the linear datamodelling score. Scores `dot`
    are the inner products, `whitened` TRAK's. [Park et al. 2023; arXiv 2402.03994, §5.2]
    """

    name = "attribution"
    regions = ("build", "step")
    outcomes = {"pairs": Approximation, "layers": LayerPairs, "datamodel": Datamodel}

    sketch: GradientSketch | None = Field(
        description="The sketch under test; null compares exact inner products with themselves."
    )
    examples: int | None = Field(
        64, ge=2, description="Training examples, drawn at random; null is all, in their order."
    )
    tests: int = Field(64, ge=1, description="Test examples, drawn at random.")
    draws: int = Field(1, ge=1, description="Independent draws of the sketch, of the same pairs.")
    chunk: int = Field(16, ge=1, description="Gradients held and sketched at once.")
    subsets: int = Field(0, ge=0, description="Subsets to train anew on; 0 does without.")
    subset_share: float = Field(
        0.5, gt=0, lt=1, description="Share of the examples in each subset."
    )
    ridge: float = Field(
        0.1, gt=0, description="λ of whitened scores, over the mean squared norm of a gradient."
    )

    @model_validator(mode="after")
    def _subsets_are_of_all(self) -> Self:
        if self.subsets and self.examples is not None:
            raise ValueError(
                f"subsets are drawn of the whole training split: set examples to null (it is "
                f"{self.examples}), and limit the split itself"
            )
        return self

    def run(self, run: Run) -> None:
        """Train, take the gradients chunk by chunk, sketch them; deliver both Gram matrices."""
        train, test = (self.task.load(split).to(run.device) for split in ("train", "test"))
        with seeded(run.rng("weights")):
            model = self.model.build(self.task.shapes)
        FP32().place(model, run.device)
        fit(self, model, train, run)
        model.eval()
        run.watch(model=model)
        tests = _drawn(test, self.tests, run.rng("tests"))
        examples = _drawn(train, self.examples, run.rng("examples"))
        sketches = []
        for draw in range(self.draws if self.sketch else 0):
            with run.region("build"):
                rng = run.rng(f"sketch/{draw}")
                sketches.append(self.sketch.build_named(sizes(model), rng, run.device))  # type: ignore[union-attr]
        parts = _layers(sizes(model))
        wanted = self._gradients(model, tests)
        images = _Images(run, sketches, self.chunk)
        images.add("tests", wanted)
        within: list[Tensor] = []
        kept: list[Tensor] = []
        for start in range(0, len(examples.targets), self.chunk):
            some = slice(start, start + self.chunk)
            found = self._gradients(model, Split(examples.inputs[some], examples.targets[some]))
            within.append(torch.stack([_inner(wanted[:, p], found[:, p]) for p in parts.values()]))
            images.add("examples", found)
            if self.subsets and not sketches:
                kept.append(found)
        layers = torch.cat(within, dim=2)
        exact = layers.sum(0)
        approx = images.inner("tests", "examples") if sketches else exact[None]
        run.deliver("pairs", Approximation(exact.expand_as(approx), approx))
        run.deliver("layers", LayerPairs(exact, dict(zip(parts, layers, strict=True))))
        if not self.subsets:
            run.deliver("datamodel", Missing("it takes `subsets` to train anew on"))
            return
        gram = images.inner("examples", "examples") if sketches else _gram(torch.cat(kept))[None]
        scores = {"dot": approx, "whitened": whitened(approx, gram, self.ridge)}
        scores = {name: score.cpu() for name, score in scores.items()}
        members, losses = retrained(self, run, train, tests, self.subsets, self.subset_share)
        run.deliver("datamodel", Datamodel(scores, members, losses))

    def _gradients(self, model: nn.Module, data: Split) -> Tensor:
        """Return the gradient of each example, (n, N)."""
        inputs = FP32().inputs(data.inputs)
        return gradients(model, self.task.loss, inputs, data.targets, chunk=self.chunk)


class _Images:
    """What each draw of a sketch made of gradients, by whose they are."""

    def __init__(self, run: Run, sketches: Sequence[LinearSketch], chunk: int) -> None:
        self._run, self._sketches, self._chunk = run, sketches, chunk
        self._images: dict[str, list[Tensor]] = {}

    def add(self, whose: str, found: Tensor) -> None:
        """Sketch gradients (n, N) with every draw."""
        if not self._sketches:
            return
        for some in torch.split(found, self._chunk):
            self._run.watch(inputs=some)
            images = []
            for sketch in self._sketches:
                with self._run.region("step"):
                    images.append(sketch.apply(some))
            self._images.setdefault(whose, []).append(torch.stack(images).double())

    def inner(self, left: str, right: str) -> Tensor:
        """Return the inner products of images (draws, m, n)."""
        first, second = (torch.cat(self._images[whose], dim=1) for whose in (left, right))
        return first @ second.mT


def _layers(named: Mapping[str, int]) -> dict[str, slice]:
    """Return the stretch of a flat vector that belongs to each module with parameters."""
    parts: dict[str, slice] = {}
    start = 0
    for name, size in named.items():
        module = name.rpartition(".")[0] or name
        first = parts[module].start if module in parts else start
        if module in parts and parts[module].stop != start:
            module, first = name, start  # a module's parameters that don't lie together
        parts[module] = slice(first, start + size)
        start += size
    return parts


def _inner(left: Tensor, right: Tensor) -> Tensor:
    """Return the inner products (m, n) of rows (m, N) and (n, N), summed in double precision."""
    total = left.new_zeros(len(left), len(right), dtype=torch.float64)
    for a, b in zip(left.split(COLUMNS, 1), right.split(COLUMNS, 1), strict=True):
        total += a.double() @ b.double().mT
    return total


def _gram(rows: Tensor) -> Tensor:
    return _inner(rows, rows)


def _drawn(data: Split, count: int | None, rng: torch.Generator) -> Split:
    """Return `count` examples, drawn without replacement; all of them where there are fewer."""
    if count is None:
        return data
    chosen = torch.randperm(len(data.targets), generator=rng)[:count].to(data.targets.device)
    return Split(data.inputs[chosen], data.targets[chosen])
