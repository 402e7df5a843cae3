"""What the recipes of activation sketches share: where they apply, and what rank they have."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Generator, nn

from sketchbench import ActivationSketch, Field, SketchedModel
from sketchbench.autodiff import Scope
from sketchbench_tri_sketch.block import Controller, Sketched, SketchedBlock, sketched
from sketchbench_tri_sketch.nonlinearity import Smooth
from sketchbench_tri_sketch.reading import Reading

SMOOTH = (
    "Pre-activation of tanh, GELU, SiLU: keep (exact; tanh keeps its output), 8bit (a byte an "
    "entry; biases' and earlier gradients are approximate), recompute (from the input, kept "
    "instead of a sketch; exact)."
)


class LayerSketch(ActivationSketch):
    """Sketches linear layers one by one, each with the non-linearity that follows it."""

    scope: Scope = Field(
        "all", description="Linear layers: all, hidden (all but the first), or a list of names."
    )
    smooth: Smooth = Field("keep", description=SMOOTH)

    @abstractmethod
    def reading(
        self, width_in: int, width_out: int, batch_rows: int | None, rng: Generator
    ) -> Reading:
        """Return a new reading, on the CPU, of a layer with inputs (batch_rows, width_in).

        `batch_rows` is the batch size: rows of sequences are more.
        """

    def build(self, model: nn.Module, batch_size: int, rng: Generator) -> SketchedModel:
        """Replace the layers in scope; raise `Skip` where there are none."""

        def reading(linear: nn.Linear, rng: Generator) -> Reading:
            return self.reading(linear.in_features, linear.out_features, batch_size, rng)

        net = sketched(self.name, model, self.scope, self.smooth, reading, rng)
        blocks = [module for module in net.modules() if isinstance(module, SketchedBlock)]
        return Sketched(net, self.controller(blocks))

    def controller(self, blocks: Sequence[SketchedBlock]) -> Controller | None:
        """Return what adapts the readings of `blocks` after each epoch; nothing by default."""
        return None


class RankSketch(LayerSketch):
    """Sketches of a target rank r, with k = 2r + 1 columns. [arXiv 2510.00442]"""

    rank: int = Field(2, ge=1, description="r, the target rank; k = 2·r + 1 columns.")
    columns: int | None = Field(None, ge=1, description="k itself, whatever the rank.")

    @property
    def k(self) -> int:
        """Columns of a sketch."""
        return 2 * self.rank + 1 if self.columns is None else self.columns
