"""Each law of the kit catches a member that breaks it, and says what was expected."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from sketchbench import (
    ActivationSketch,
    CovarianceSketch,
    Field,
    GradientSketch,
    Optimizer,
    Skip,
)
from sketchbench.autodiff import Plain
from sketchbench.testing import activation, covariance, gradient, laws, optimizer, recipe
from sketchbench.testing.break_even import breaks_even_at_the_rank_it_says
from sketchbench.testing.saving import keeps_fewer_bytes_above_its_break_even
from sketchbench.testing.state import declares_its_state

OWN_FILES = (
    *(law for law in gradient.LAWS if law not in gradient.ALGEBRA),
    gradient.accumulates_in_any_pieces,
    breaks_even_at_the_rank_it_says,
    declares_its_state,
    keeps_fewer_bytes_above_its_break_even,
)

# ---------------------------------------------------------------- members that break one law each


class Signs(GradientSketch):
    """Fair signs, held; `fault` breaks one law."""

    name = "signs"
    out_size: int = Field(16, ge=1, description="D.")
    fault: str = Field("", description="The law to break.")

    def build(self, size, rng, device):
        matrix = torch.randint(2, (self.out_size, size), generator=rng) * 2.0 - 1
        scale = 1 if self.fault == "keeps_norms_on_average" else self.out_size**-0.5
        return Held(matrix * scale, self.fault)

    def build_named(self, sizes, rng, device):
        size = sum(sizes.values())
        if self.fault == "leaves a parameter out":
            size -= list(sizes.values())[-1]
        if self.fault == "draws by the clock":
            rng.seed()
        return self.build(size, rng, device)


@dataclass
class Held:
    matrix: torch.Tensor
    fault: str
    products: int = 0

    @property
    def shape(self):
        out, size = self.matrix.shape
        return (size, out) if self.fault == "has_the_shape" else (out, size)

    def apply(self, x):
        y = self.times(x, self.matrix.mT)
        if self.fault == "maps_batches" and x.ndim > 1:
            return y.flip(0)
        return y + 1 if self.fault == "is_linear" else y

    def adjoint(self, y):
        self.products += 1
        if self.fault == "repeats_with_its_period" and self.products % 3 == 0:
            self.matrix = self.matrix.clone()
        if self.fault == "sketches_symmetric_operators":
            y = y.flip(-1)
        x = self.times(y, self.matrix)
        return 2 * x if self.fault == "has_an_adjoint" else x

    @staticmethod
    def times(x, matrix):
        wide = torch.promote_types(x.dtype, torch.float32)
        return (x.to(wide) @ matrix.to(wide)).to(x.dtype)


class Gram(CovarianceSketch):
    """Σ aaᵀ; `fault` breaks one law."""

    name = "gram"
    fault: str = Field("", description="The law to break.")

    def build(self, size, device):
        return Running(torch.zeros(size, size), self.fault)


@dataclass
class Running:
    matrix: torch.Tensor
    fault: str
    seen: int = 0

    def update(self, rows):
        poisoned = self.fault == "is_not_poisoned_by_rows_that_are_not_finite"
        if not poisoned and not rows.isfinite().all():
            raise ValueError("rows that aren't finite")
        if self.fault == "takes_rows_of_float64" and rows.dtype == torch.float64:
            return
        if self.fault == "takes_any_number_of_rows" and len(rows) > 1:
            self.matrix.add_(torch.nan)
        if self.fault == "repeats":
            rows.mul_(2)
        step = rows.mT @ rows
        if self.fault == "holds_one_row":
            step = step.diag().diag()
        if self.fault == "scales_with_its_rows":
            step = step / (1 + step.trace()) ** 0.5
        if self.fault == "is_symmetric_and_semi_definite":
            step = step.triu()
        if self.fault == "keeps the first row of each update":
            step = rows[:1].mT @ rows[:1]
        if self.fault == "overwrites":
            self.matrix.zero_()
        if self.fault == "decays by half":
            self.matrix /= 2
        if self.fault == "averages":
            step = (step - self.matrix * len(rows)) / (self.seen + len(rows))
        self.seen += len(rows)
        self.matrix += step

    @property
    def tail(self):
        below = self.fault == "keeps_the_bounds_that_it_promises"
        return self.matrix.new_tensor(-1.0 if below else 0.0)

    def dense(self):
        return self.matrix + (self.fault == "starts_from_zero")

    def power(self, x, exponent, ridge):
        values, vectors = torch.linalg.eigh(self.matrix)
        if self.fault == "has_powers_of_its_dense_form":
            exponent = -0.5
        return vectors @ ((values.clamp_min(0) + ridge) ** exponent).diag() @ vectors.mT @ x


class Steps(ActivationSketch):
    """The exact model; `fault` breaks one law."""

    name = "steps"
    fault: str = Field("", description="The law to break.")

    def build(self, model, batch_size, rng):
        if self.fault == "shares_the_parameters":
            twin = nn.Sequential(*model)
            twin.extra = nn.Linear(1, 1)
            return Plain(twin)
        if self.fault == "computes_the_exact_forward":
            return Plain(nn.Sequential(*model, nn.Threshold(0.1, 0.0)))
        return Faulty(model, self.fault, rng)


class Faulty(Plain):
    def __init__(self, model, fault, rng):
        super().__init__(model)
        self.fault = fault
        self.rng = rng
        self.steps = 0

    def accumulate(self, inputs, targets, loss):
        if self.fault == "adds_to_the_gradients":
            self.model.zero_grad()
        if self.fault == "leaves_the_global_generator":
            torch.rand(1)
        self.steps += 1
        if self.fault == "repeats_with_its_period" and self.steps % 3 == 0:
            torch.ones(1).log()
        mean = super().accumulate(inputs, targets, loss)
        for p in self.model.parameters():
            if self.fault == "sums over the batch" and p.grad is not None:
                p.grad *= len(inputs)
            if self.fault == "counts on full batches" and p.grad is not None:
                p.grad *= len(inputs) / 8
            if self.fault == "has no gradient" and p.grad is not None:
                p.grad.zero_()
            if self.fault == "fills_the_gradients_that_are_asked_for" and p.grad is None:
                p.grad = torch.zeros_like(p)
            if self.fault == "repeats_from_its_seed":
                p.grad += torch.randn(p.shape, generator=self.rng.manual_seed(self.rng.seed()))
        return mean * 2 if self.fault == "returns_the_mean_loss" else mean


class Descent(Optimizer):
    """Gradient descent with momentum; `fault` breaks one law."""

    name = "descent"
    fault: str = Field("", description="The law to break.")

    def build(self, params):
        params = list(params)
        if self.fault == "moves_every_parameter":
            params = [p for p in params if p.ndim == 2]
        if self.fault == "owns_its_parameters":
            params = [nn.Parameter(p.detach().clone()) for p in params]
        return Momentum(params, self.fault)


class Momentum(torch.optim.Optimizer):
    def __init__(self, params, fault):
        super().__init__(params, {"lr": 0.1})
        self.fault = fault
        self.hidden = {}
        self.steps = 0

    @torch.no_grad()
    def step(self):
        self.steps += 1
        if self.fault == "repeats_with_its_period" and self.steps % 3 == 0:
            torch.linalg.eigh(torch.eye(3))
        for group in self.param_groups:
            for p in group["params"]:
                gradient = p.grad
                if gradient is None and self.fault == "skips_what_has_no_gradient":
                    gradient = torch.ones_like(p)
                if gradient is None:
                    continue
                hides = self.fault == "goes_on_from_its_state"
                state = self.hidden.setdefault(p, {}) if hides else self.state[p]
                state["mean"] = 0.5 * state.get("mean", 0) + gradient
                rate = 0.1 if self.fault == "respects_the_rate_of_a_group" else group["lr"]
                if self.fault == "takes the rate for a switch" and rate:
                    rate = 0.1
                p.add_(state["mean"], alpha=rate if self.fault == "descends" else -rate)


# What a law of several faults catches; every other law's fault has its name.
FAULTS = {
    gradient.joins_named_parameters: ("leaves a parameter out", "draws by the clock"),
    covariance.adds_every_row: (
        "overwrites",
        "averages",
        "decays by half",
        "keeps the first row of each update",
    ),
    activation.has_the_exact_gradient_of_the_last_bias: (
        "sums over the batch",
        "counts on full batches",
        "has no gradient",
    ),
    optimizer.moves_less_at_a_lower_rate: ("takes the rate for a switch",),
}
CASES = [
    (member, law)
    for member, module in (
        (Signs, gradient),
        (Gram, covariance),
        (Steps, activation),
        (Descent, optimizer),
    )
    for law in module.LAWS
    if law not in OWN_FILES
]


@pytest.mark.parametrize(("member", "law"), CASES, ids=lambda v: v.__name__)
def test_a_law_is_kept_by_a_good_member(member, law):
    law(member())


@pytest.mark.parametrize(
    ("member", "law", "fault"),
    [(*case, fault) for case in CASES for fault in FAULTS.get(case[1], (case[1].__name__,))],
    ids=lambda v: getattr(v, "__name__", v),
)
def test_a_law_catches_its_fault_and_says_what_was_expected(member, law, fault):
    with pytest.raises(AssertionError, match="expected "):
        law(member(fault=fault))


class Sampling(GradientSketch):
    """Coordinates drawn with replacement: unbiased, and almost never the first one."""

    name = "sampling"
    out_size: int = Field(1, ge=1, description="D.")
    power: float = Field(0.5, description="Of N/D, the scale; ½ keeps norms.")

    def build(self, size, rng, device):
        rows = torch.randint(size, (self.out_size,), generator=rng)
        return Held(torch.eye(size)[rows] * (size / self.out_size) ** self.power, "")


@pytest.mark.parametrize("out_size", [1, 2, 64])
def test_a_sketch_that_samples_coordinates_keeps_norms_on_average(out_size):
    gradient.keeps_norms_on_average(Sampling(out_size=out_size))


@pytest.mark.parametrize("power", [0.0, 0.4, 0.6, 1.0])
def test_a_sketch_that_samples_coordinates_at_a_wrong_scale_is_caught(power):
    with pytest.raises(AssertionError, match="expected the mean of"):
        gradient.keeps_norms_on_average(Sampling(power=power))


class Unfair(Signs):
    """Signs, but for the first coordinate, which counts twice."""

    name = "unfair"

    def build(self, size, rng, device):
        held = super().build(size, rng, device)
        held.matrix[:, 0] *= 2**0.5
        return held


def test_a_sketch_that_favours_one_coordinate_is_caught():
    with pytest.raises(AssertionError, match="for x = e₁"):
        gradient.keeps_norms_on_average(Unfair())


class Bounded(Descent):
    """Descent whose step is no longer than a bound, as K-FAC's by the KL divergence."""

    name = "bounded"

    def build(self, params):
        return _Bounded(list(params), "")


class _Bounded(Momentum):
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad *= min(1.0, 1e-3 / float((group["lr"] * p.grad).norm() + 1e-30))
        super().step()


def test_a_bound_on_the_step_is_no_fault():
    optimizer.moves_less_at_a_lower_rate(Bounded())


# ---------------------------------------------------------------- laws()


def test_laws_are_those_of_recipes_and_of_the_kind():
    (mark,) = laws(Signs()).pytestmark
    assert mark.args[1] == [*recipe.LAWS, *gradient.LAWS]


test_signs = laws(Signs(out_size=8))


def test_a_sketch_that_skips_a_model_skips_the_law():
    class Refusing(Steps):
        """Refuses every model."""

        name = "refusing"

        def build(self, model, batch_size, rng):
            raise Skip("no model is good enough")

    with pytest.raises(pytest.skip.Exception, match="no model is good enough"):
        activation.returns_the_mean_loss(Refusing())
