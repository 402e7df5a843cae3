"""The tri-sketch recipe: three EMA sketches a layer, in the readings that can be computed."""

from __future__ import annotations

import warnings
from typing import Literal, Self

from pydantic import model_validator
from torch import Generator

from sketchbench import Field
from sketchbench_tri_sketch.candidates import Candidate
from sketchbench_tri_sketch.controllers import Adaptive
from sketchbench_tri_sketch.reading import Reading
from sketchbench_tri_sketch.rows import rows_above
from sketchbench_tri_sketch.tropp import Tropp


class TriSketch(Adaptive):
    """Keep three sketches of a layer's activations, of one batch or of their EMA.

    [arXiv 2510.00442] Its equations (6)-(7), which turn sketches into activations, are not
    available to us. `tropp` is the three-sketch method that its bound of √6·τ_{r+1} belongs to:
    both sides of one matrix and a core of s ≥ 2k + 1 [Tropp, Yurtsever, Udell & Cevher 2019,
    Theorem 5.1]. `candidate-p1` and `candidate-p2` are the two readings that public fragments
    admit; they recover nothing. Where `tropp` differs from the fragments:

    1. The sketches are of the rows and of the columns of the layer's input A (n, d), and two-sided;
       theirs are all of columns, of its input and of its output.
    2. s = 2k + 1, where the paper has s = k, for which the error has no finite mean.
    3. β is 0: an EMA mixes rows of different batches, and with it projections can't be fresh.
    4. The EMA is divided by its mass 1 − βᵗ, unless `bias_correction` is off.
    5. Projections are drawn for each layer, from a seed, not held and shared by all layers.
    """

    name = "tri-sketch"
    core: Literal["tropp", "candidate-p1", "candidate-p2"] = Field(
        "tropp", description="Reading: tropp, or a candidate for the paper's unknown equations."
    )
    beta: float = Field(0.0, ge=0, lt=1, description="β, the decay of the EMA; 0: of one batch.")
    oversampling: Literal["standard", "none"] = Field(
        "standard", description="Size of the core: standard, s = 2k + 1, or none, s = k."
    )
    core_size: int | None = Field(None, ge=1, description="s itself, at least k.")
    projections: Literal["fixed", "fresh"] = Field(
        "fixed", description="The same for all steps, or new in each, which needs β = 0."
    )
    bias_correction: bool = Field(True, description="Whether to divide by 1 − βᵗ.")

    @model_validator(mode="after")
    def _can_be_built(self) -> Self:
        if self.projections == "fresh" and self.beta:
            raise ValueError(
                f"projections 'fresh' need beta 0, not {self.beta:g}: sketches by different "
                "projections can't be averaged"
            )
        if self.core_size is not None and self.core_size < self.k:
            raise ValueError(f"core_size {self.core_size} is less than k = {self.k}")
        if self.core_size is not None and self.adapt != "none":
            raise ValueError("core_size can't be given with adapt: a rank tells it")
        if self.core != "tropp":
            given = {"oversampling": self.oversampling != "standard"}
            given |= {"core_size": self.core_size is not None}
            given |= {"projections": self.projections != "fixed"}
            if any(given.values()):
                names = ", ".join(name for name, is_given in given.items() if is_given)
                raise ValueError(f"core '{self.core}' takes no {names}: s is k, projections fixed")
        return self

    @property
    def s(self) -> int:
        """Rows and columns of the core sketch."""
        if self.core != "tropp":
            return self.k
        standard = 2 * self.k + 1 if self.oversampling == "standard" else self.k
        return self.core_size or standard

    def reading(
        self, width_in: int, width_out: int, batch_rows: int | None, rng: Generator
    ) -> Reading:
        """Return one layer's sketches; warns where the bound needs a larger core."""
        if self.core != "tropp":
            which: Literal["p1", "p2"] = "p1" if self.core == "candidate-p1" else "p2"
            candidate = Candidate(which, self.k, rng, self.beta, self.bias_correction)
            return self.probed(candidate, rng)
        if self.s <= self.k + 1:
            warnings.warn(
                f"tri-sketch: with s = {self.s} and k = {self.k} the mean error has no bound; "
                f"(s − 1)/(s − k − 1) needs s > k + 1, and √6·τ needs s = {2 * self.k + 1}",
                stacklevel=2,
            )
        fresh = self.projections == "fresh"
        sketches = Tropp(self.k, self.s, rng, fresh, self.beta, self.bias_correction)
        return self.probed(sketches, rng)

    def break_even(self, width: int) -> int | None:
        """Return the rows from which k(n + d) + s², or 3dk, numbers and ReLU's bits are less."""
        probe = self.probe_bytes(width)
        if self.core != "tropp":
            return rows_above(3 * 4 * self.k * width + probe, width)
        return rows_above(4 * (self.k * width + self.s**2) + probe, width, 4 * self.k)
