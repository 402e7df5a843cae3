"""Scores of a gradient sketch: how it keeps norms and inner products, over its draws."""

from __future__ import annotations

from torch import Tensor

from sketchbench import Field, Missing, Score
from sketchbench.builtin.workloads.distortion import Conditional, InnerProducts, Norms

INPUT = "`mean` or `worst` of the vectors, or the name of one that is adversarial."


class _OfInputs(Score):
    unit = "1"
    direction = "lower"
    margin = 0.2
    input: str = Field("mean", min_length=1, description=INPUT)

    def chosen(self, values: Tensor, names: tuple[str, ...]) -> float:
        """Return one of the values (vectors,), or their mean or largest.

        Raises `Missing` where no vector has the name.
        """
        if self.input == "mean":
            return float(values.mean())
        if self.input == "worst":
            return float(values.max())
        if self.input not in names:
            raise Missing(f"no input '{self.input}' here: {', '.join(names) or 'none has a name'}")
        return float(values[names.index(self.input)])


class Kappa(_OfInputs):
    """κ = D·Var(‖Sx‖²/‖x‖²)/2 over draws: 1 for a dense Gaussian, D/κ is the effective dimension.

    The sample variance of n draws is itself off by about √(2/n) of it, more where failures are
    rare and large; the largest of many vectors' is above the true one.
    """

    name = "kappa"
    consumes = Norms

    def __call__(self, outcome: Norms) -> float:
        """Return κ; raise `Missing` where a single draw has no variance."""
        if len(outcome.exact) < 2:
            raise Missing("a variance over draws needs two of them: `repeats`")
        variances = (outcome.approx / outcome.exact).var(0)
        return self.chosen(outcome.out_size * variances / 2, outcome.names)


class ConditionalKappa(_OfInputs):
    """κ from exact variances, over the sketch's Gaussians given all else; the mean over draws.

    All of κ where ‖Sx‖² is right on average given all else, as it is of folds. Missing of a
    sketch that doesn't tell it.
    """

    name = "conditional_kappa"
    consumes = Conditional

    def __call__(self, outcome: Conditional) -> float:
        """Return the mean over draws."""
        return self.chosen(outcome.kappas.mean(0), outcome.names)


class NormBias(_OfInputs):
    """|E‖Sx‖²/‖x‖² − 1|, of the mean over draws: √(2κ/(Dn)) is its noise over n draws."""

    name = "norm_bias"
    consumes = Norms
    margin = 0.05

    def __call__(self, outcome: Norms) -> float:
        """Return the bias."""
        means = (outcome.approx / outcome.exact).mean(0)
        return self.chosen((means - 1).abs(), outcome.names)


class _Failing(_OfInputs):
    consumes = Norms
    unit = "fraction"
    margin = 0.01
    epsilon: float = Field(0.2, gt=0, description="ε, the relative error of a norm that fails.")

    def failures(self, outcome: Norms) -> Tensor:
        """Return how often |‖Sx‖/‖x‖ − 1| > ε, or isn't finite, of each vector: (vectors,)."""
        errors = ((outcome.approx / outcome.exact).sqrt() - 1).abs()
        return (~(errors <= self.epsilon)).sum(0)


class FailureRate(_Failing):
    """P(|‖Sx‖/‖x‖ − 1| > ε): the share of draws in which a norm is off by more than ε."""

    name = "failure_rate"

    def __call__(self, outcome: Norms) -> float:
        """Return the share."""
        return self.chosen(self.failures(outcome).double() / len(outcome.exact), outcome.names)


class FailureBound(_Failing):
    """Clopper–Pearson upper bound of the failure rate, over independent draws.

    The largest of the vectors' bounds, by default, holds for the worst of them with the same
    confidence: it isn't below the worst one's own. Without a failure in n draws it is about 4.6/n.
    """

    name = "failure_bound"
    input: str = Field("worst", min_length=1, description=INPUT)
    confidence: float = Field(0.99, gt=0, lt=1, description="One-sided confidence of the bound.")

    def __call__(self, outcome: Norms) -> float:
        """Return the bound."""
        draws = len(outcome.exact)
        bounds = [self._bound(int(count), draws) for count in self.failures(outcome)]
        return self.chosen(outcome.exact.new_tensor(bounds), outcome.names)

    def _bound(self, failures: int, draws: int) -> float:
        """Return p with P(≤ failures of draws) = 1 − confidence. [Clopper Pearson 1934]"""
        from scipy.stats import beta

        if failures == draws:
            return 1.0
        return float(beta.ppf(self.confidence, failures + 1, draws - failures))


class InnerRMSE(Score):
    """Root mean square of ⟨Sx, Sy⟩ − ⟨x, y⟩ over draws and pairs, of unit vectors at about 60°.

    √(1.25/D) for a dense Gaussian.
    """

    name = "inner_rmse"
    consumes = InnerProducts
    unit = "1"
    direction = "lower"
    margin = 0.05
    relative = True

    def __call__(self, outcome: InnerProducts) -> float:
        """Return the error."""
        return float((outcome.approx - outcome.exact).square().mean().sqrt())
