"""What a sketch promises of norms is held against it: each way of promising too much is caught."""

from dataclasses import dataclass

import pytest
import torch
from torch import Generator

from sketchbench import Field, GradientSketch, Guarantee
from sketchbench.linalg import fwht, normals, padded, seed_of, signs, stream
from sketchbench.testing import gradient_norms as norms
from sketchbench.testing.gradient_evidence import exceeds, falls_short, lower_bound


class Fold(GradientSketch):
    """fold_D(G·H·B·x), of κ ≤ 3; `fault` makes it less than it says."""

    name = "fold"
    out_size: int = Field(32, ge=1, description="D.")
    fault: str = Field("", description="What is wrong.")

    def build(self, size, rng, device):
        order, seed = max(padded(size), self.out_size), seed_of(rng)
        sign = signs(stream(seed, "signs"), order)[:size].float()
        gauss = normals(stream(seed, "gauss"), order)
        if self.fault == "no signs":  # Walsh functions break it, as they do Fastfood
            sign = torch.ones(size)
        if self.fault == "wrong scale":
            gauss *= 1.1
        if self.fault == "floor":  # of the padding, so that the last coordinates are lost
            sign[order // 2 :] = 0
        exact = not self.fault or self.fault.startswith("conditional")
        return (Exact if exact else Folded)(sign, gauss, self.out_size, self.fault)

    def guarantee(self, size):
        breaks = {
            "breaks too little": ("axis",),
            "unknown": ("axes",),
        }
        kappa = {"half": 1.5, "a fifth": 0.3, "none": 0.0, "infinite": 1e30}
        return Guarantee(
            kappa.get(self.fault, 3.0),
            breaks.get(self.fault, ()),
            unbiased=self.fault != "unbiased after all",
        )


@dataclass
class Folded:
    sign: torch.Tensor  # (N,)
    gauss: torch.Tensor  # (M,)
    out_size: int
    fault: str

    @property
    def shape(self):
        return self.out_size, len(self.sign)

    def _mixed(self, x):
        pad = len(self.gauss) - x.shape[-1]
        return fwht(torch.nn.functional.pad(x * self.sign, (0, pad)).float())

    def apply(self, x):
        return (self._mixed(x) * self.gauss).unflatten(-1, (-1, self.out_size)).sum(-2)

    def adjoint(self, y):
        tiled = y.repeat(*[1] * (y.ndim - 1), len(self.gauss) // self.out_size)
        return fwht(tiled * self.gauss)[..., : len(self.sign)] * self.sign


class Exact(Folded):
    def conditional_kappa(self, x):
        groups = self._mixed(x).square().unflatten(-1, (-1, self.out_size)).sum(-2)
        kappa = self.out_size * float(groups.square().sum())
        return kappa * {"conditional low": 0.5, "conditional high": 2.0}.get(self.fault, 1.0)


class Honest(Fold):
    """Has no signs, and says what breaks it."""

    name = "honest"

    def build(self, size, rng, device):
        return Fold(fault="no signs").build(size, rng, device)

    def guarantee(self, size):
        return Guarantee(4.0, ("column", "ones"))


class Unguarded(Fold):
    """Promises nothing."""

    name = "unguarded"

    def guarantee(self, size):
        return None


@pytest.mark.parametrize("law", norms.LAWS, ids=lambda law: law.__name__)
def test_a_sketch_that_keeps_its_promise_passes(law):
    if law is norms.is_broken_by_what_it_says:
        with pytest.raises(pytest.skip.Exception, match="nothing breaks it"):
            law(Fold())
    else:
        law(Fold())


@pytest.mark.parametrize(
    ("fault", "law", "said"),
    [
        ("unknown", norms.says_what_can_be_tested, "expected breaks to name inputs .* got axes"),
        ("none", norms.says_what_can_be_tested, "expected a kappa above 0"),
        ("infinite", norms.says_what_can_be_tested, "expected a finite kappa"),
        ("wrong scale", norms.keeps_the_norm_of_every_input, "1.2.* on gaussian"),
        ("floor", norms.keeps_the_norm_of_every_input, "got .*ends"),
        ("unbiased after all", norms.keeps_the_norm_of_every_input, "says it is biased to change"),
        ("no signs", norms.concentrates_as_it_promises, "got .* on column"),
        ("half", norms.concentrates_as_it_promises, "≤ 1.5, the kappa .* got 3.* on layer"),
        (
            "breaks too little",
            norms.is_broken_by_what_it_says,
            "got 1.* on axis in 2000 draws: leave",
        ),
        ("no signs", norms.keeps_inner_products, "to be unbiased and off by at most"),
        ("a fifth", norms.keeps_inner_products, "deviation .* for x = "),
        ("wrong scale", norms.keeps_inner_products, "bias .* for x = "),
        ("conditional low", norms.has_the_conditional_kappa_that_it_says, "on gaussian"),
        ("conditional high", norms.has_the_conditional_kappa_that_it_says, "on gaussian"),
    ],
)
def test_a_promise_that_is_not_kept_is_caught(fault, law, said):
    with pytest.raises(AssertionError, match=said):
        law(Fold(fault=fault))


@pytest.mark.parametrize("law", norms.LAWS[:4], ids=lambda law: law.__name__)
def test_a_broken_sketch_that_says_so_passes(law):
    law(Honest())


@pytest.mark.parametrize("law", norms.LAWS[:5], ids=lambda law: law.__name__)
def test_without_a_promise_nothing_is_asserted(law):
    with pytest.raises(pytest.skip.Exception, match="unguarded promises nothing"):
        law(Unguarded())


# ---------------------------------------------------------------- evidence


def test_the_exact_test_needs_few_draws_for_twice_the_mean_and_sees_the_lower_tail():
    draws = torch.randn(400, 50, generator=Generator().manual_seed(0)).square()
    assert exceeds(draws, 0.5).all()
    assert not exceeds(draws, 1.0, 0.05).all()
    assert falls_short(draws, 3.0, 27.0).all()


def test_false_alarms_are_as_rare_as_the_level_says():
    """Of 1000 true statements at a level of 5 %, heavy tails: at most 5 % + 4 standard errors."""
    normal = torch.randn(60, 1000, generator=Generator().manual_seed(1), dtype=torch.float64)
    for draws, mean, second in ((normal.square(), 1.0, 3.0), (normal.pow(4), 3.0, 105.0)):
        for alarms in (exceeds(draws, mean, 0.05), falls_short(draws, mean, second, 0.05)):
            assert float(alarms.double().mean()) <= 0.05 + 4 * (0.05 * 0.95 / 1000) ** 0.5


def test_the_lower_bound_is_below_the_mean_and_near_it():
    draws = torch.randn(2000, generator=Generator().manual_seed(2)).square()
    assert 0.8 < lower_bound(draws, 0.01) < 1.0


def test_what_is_no_number_is_held_against_the_sketch():
    assert exceeds(torch.tensor([[float("nan")], [1.0]]), 1.0).all()
