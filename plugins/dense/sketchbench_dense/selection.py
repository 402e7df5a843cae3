"""Sketches that leave coordinates out: a layer's alone, or some at random. Both are biased."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from sketchbench import Field, GradientSketch, Guarantee, LinearSketch
from sketchbench.linalg import expect_length, seed_of, stream
from sketchbench_dense.projections import Gaussian


class LayerSelection(GradientSketch):
    """The gradient of a few layers, in place of the whole model's. Biased. [Schioppa 2024, §5.2]

    What is done where a model is too large for a dense projection. ‖Sx‖² is what the layers have
    of ‖x‖², so nothing is promised, unless all are selected. Without `out_size` the coordinates
    are taken as they are, the best that any projection of them could do; nothing is held.
    Given a flat vector without names it can select all of it, and no less.
    """

    name = "layer-selection"
    layers: str = Field("*", min_length=1, description="Parameters to keep: a pattern (*, ?, []).")
    out_size: int | None = Field(
        None, ge=1, description="D: project to so many, by Gaussian entries; else take all."
    )

    def build(self, size: int, rng: Generator, device: torch.device) -> LinearSketch:
        """Select everything; raise `ValueError` for any pattern but `*`, for want of names."""
        if self.layers != "*":
            raise ValueError(
                f"layer-selection: no names to hold against '{self.layers}'; a flat vector has none"
            )
        return self._of([slice(0, size)], size, rng, device)

    def build_named(
        self, sizes: Mapping[str, int], rng: Generator, device: torch.device
    ) -> LinearSketch:
        """Select the parameters that match; raise `ValueError` if none does."""
        spans, start = [], 0
        for name, size in sizes.items():
            if fnmatchcase(name, self.layers):
                spans.append(slice(start, start + size))
            start += size
        if not spans:
            known = ", ".join(sizes)
            raise ValueError(f"layer-selection: '{self.layers}' matches no parameter of {known}")
        return self._of(spans, start, rng, device)

    def guarantee(self, size: int) -> Guarantee:
        """Promise κ ≤ 1 where all is selected, and else that it is biased."""
        return Guarantee(kappa=1.0, unbiased=self.layers == "*")

    def state_bytes(self, size: int) -> int:
        """Return 0: spans are no tensors, and Gaussians are drawn anew."""
        return 0

    def _of(
        self, spans: Sequence[slice], size: int, rng: Generator, device: torch.device
    ) -> LinearSketch:
        selected = sum(span.stop - span.start for span in spans)
        projection = None
        if self.out_size is not None:
            projection = Gaussian(out_size=self.out_size).build(selected, rng, device)
        return Spans(spans, size, projection)


class RandomMask(GradientSketch):
    """D coordinates drawn at random, as dattri's `random_mask` takes them. Biased.

    ‖Sx‖² is D/N·‖x‖² on average and, `rescaled` by √(N/D), ‖x‖². D·Var‖Sx‖²/2 is then
    (N − D)/2·(N·‖x‖₄⁴ − 1)/(N − 1): about 1 on a dense vector and (N − D)/2 on one coordinate,
    which is lost with a chance of 1 − D/N. 8 bytes an entry of the sketch.
    From D = N on it keeps every coordinate, and zeros follow.
    """

    name = "random-mask"
    out_size: int = Field(256, ge=1, description="D, length of the sketch.")
    rescaled: bool = Field(False, description="Scale by √(N/D): unbiased, but no better.")

    def build(self, size: int, rng: Generator, device: torch.device) -> LinearSketch:
        """Draw the coordinates."""
        kept = min(self.out_size, size)
        drawn = stream(seed_of(rng), self.name).choice(size, kept, replace=False, shuffle=False)
        places = torch.from_numpy(drawn).sort().values  # in order of memory
        scale = (size / kept) ** 0.5 if self.rescaled else 1.0
        return Mask((self.out_size, size), places.to(device), scale)

    def guarantee(self, size: int) -> Guarantee:
        """Return κ of one coordinate, the most there is: an effective dimension of 2D/(N − D)."""
        if self.out_size >= size:
            return Guarantee(kappa=1.0)  # nothing is lost, and κ is 0
        share = 1.0 if self.rescaled else self.out_size / size
        return Guarantee(share**2 * (size - self.out_size) / 2, unbiased=self.rescaled)

    def state_bytes(self, size: int) -> int:
        """Return the bytes of the coordinates' places."""
        return 8 * min(self.out_size, size)


class Spans:
    """S that takes stretches of a vector, and projects them if there is a projection."""

    def __init__(
        self, spans: Sequence[slice], size: int, projection: LinearSketch | None = None
    ) -> None:
        selected = sum(span.stop - span.start for span in spans)
        self.shape = (projection.shape[0] if projection else selected, size)
        self._spans = spans
        self._projection = projection

    def apply(self, x: Tensor) -> Tensor:
        """Map x (..., N) to Sx (..., D)."""
        expect_length("layer-selection", x, self.shape[1])
        selected = torch.cat([x[..., span] for span in self._spans], -1)
        return self._projection.apply(selected) if self._projection else selected

    def adjoint(self, y: Tensor) -> Tensor:
        """Map y (..., D) to Sᵀy (..., N), zero where nothing is selected."""
        expect_length("layer-selection", y, self.shape[0])
        selected = self._projection.adjoint(y) if self._projection else y
        product = y.new_zeros(*y.shape[:-1], self.shape[1])
        start = 0
        for span in self._spans:
            length = span.stop - span.start
            product[..., span] = selected[..., start : start + length]
            start += length
        return product


class Mask:
    """S (D, N) that takes coordinates one by one, and scales them; zeros fill it up to D."""

    def __init__(self, shape: tuple[int, int], places: Tensor, scale: float) -> None:
        self.shape = shape
        self._places = places  # (min(D, N),) int64
        self._scale = scale

    def apply(self, x: Tensor) -> Tensor:
        """Map x (..., N) to Sx (..., D)."""
        expect_length("random-mask", x, self.shape[1])
        taken = x.index_select(-1, self._places) * self._scale
        return F.pad(taken, (0, self.shape[0] - len(self._places)))

    def adjoint(self, y: Tensor) -> Tensor:
        """Map y (..., D) to Sᵀy (..., N), zero where nothing is selected."""
        expect_length("random-mask", y, self.shape[0])
        taken = y[..., : len(self._places)] * self._scale
        product = y.new_zeros(*y.shape[:-1], self.shape[1])
        return product.scatter(-1, self._places.expand(taken.shape), taken)
