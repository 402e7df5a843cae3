"""The monitor: the tri-sketch EMA beside exact training, and norms of gradients from sketches."""

from __future__ import annotations

from torch import Generator, nn

from sketchbench import Field, Monitor, Skip, Watcher
from sketchbench.autodiff import linear_layers
from sketchbench_tri_sketch.monitor_watcher import SketchWatcher


class TriSketchMonitor(Monitor):
    """Watches the linear layers of exact training through the tri-sketch EMA. [arXiv 2510.00442]

    Sketches of width k = 2·rank + 1. A (rows, n) is a layer's input, δ (rows, m) the loss's
    gradient by its output, g = δᵀA its weight gradient, which is never read. Estimates of g:

    - `sketched_norm`: ‖Ψg‖_F/√k with one Gaussian Ψ (k, m); its square is unbiased for ‖g‖².
    - `two_sided_raw`: ‖ĝ‖_F with ĝ = (δᵀU)(UᵀA)/k and a fresh Gaussian U (rows, k) each step. Its
      square has mean (1 + 1/k)‖g‖² + ‖A‖²‖δ‖²/k: where rows are many it is mostly the last term.
    - `two_sided_norm`: the same with that noise removed. It is all in the terms in which a column
      of U meets itself; the others are unbiased for ‖g‖², but scatter by about ‖A‖²‖δ‖²/k, too.
      0 where they are negative.
    - `delta_times_sketch`: ‖δ‖_F·‖X_s‖_F/√k.

    Statistics of activations and directions:

    - `z_norm`: ‖Z_s‖_F, the paper's gradient-norm proxy. It has no δ in it: it follows the scale
      of activations, and in healthy training falls where gradients rise, and the other way round.
    - `stable_rank`: ‖Y_s‖_F²/‖Y_s‖₂², at most k, and near 1 after a ReLU, where the mean row
      dominates; `stable_rank_centred`: the same with the mean row removed.
    - `diversity`: 1 − cos(Ψg, Ψg′), with g′ of the step observed before. NaN at the first.

    Differs from the paper:
    1. The EMAs are divided by 1 − β^t: zero-initialised ones hold 5 % of their mass at first.
    2. Y_s and Z_s of a layer sketch what the next layer in the model's order reads, the last
       layer's its own output: the layer's activations where linear layers form a chain.
    3. s = k as in the paper, since nothing is reconstructed. Z's weights are a vector of length s
       per layer, the reading that its equation (5c) admits.
    4. The paper has no formula of its diversity measurement that is public: this one is ours.
    5. The projections are drawn for the rows of the first batch; smaller ones use the first rows.
    """

    name = "tri-sketch-monitor"
    rank: int = Field(2, ge=1, description="r; sketches have k = 2r + 1 columns.")
    beta: float = Field(
        0.95, ge=0, lt=1, description="Momentum of the EMAs; the paper says 0.9 to 0.99."
    )
    every: int = Field(1, ge=1, description="Steps from one that is observed to the next.")
    diversity: bool = Field(
        True, description="Whether to keep each layer's last Ψg: as much memory as one sketch."
    )

    two_sided: bool = Field(
        False, description="Whether to draw U each step, for `two_sided_raw` and `two_sided_norm`."
    )

    @property
    def period(self) -> int:
        """Steps from one that is observed to the next."""
        return self.every

    def build(self, model: nn.Module, batch_size: int, rng: Generator) -> Watcher:
        """Watch every linear layer; raise `Skip` where there is none."""
        names = linear_layers(model, "all")
        if not names:
            raise Skip(f"{self.name}: the model has no linear layer")
        layers = {name: model.get_submodule(name) for name in names}
        return SketchWatcher(
            layers, 2 * self.rank + 1, self.beta, self.diversity, self.two_sided, rng
        )
