import math

import pytest
import torch

from sketchbench import Approximation, GradientSample, Missing, Spectra
from sketchbench.builtin import (
    Cosine,
    EffectiveRank,
    GradientBias,
    GradientCosine,
    GradientVariance,
    MeanGradientError,
    StableRank,
)


def sample(sketched, exact, cosines=(0.5, 1.0), variances=(2.0, 1.0, 4.0)):
    return GradientSample(
        torch.tensor(cosines), torch.tensor(sketched), torch.tensor(exact), *variances
    )


def test_the_cosine_is_the_mean_over_batches():
    assert GradientCosine()(sample([1.0], [1.0])) == 0.75


def test_the_bias_is_squared_relative_and_without_its_noise():
    found = GradientBias()(sample([3.0, 4.0, 4.0], [3.0, 4.0, 0.0]))
    assert found == pytest.approx((16 - 4 / 2) / 25)


def test_the_bias_of_pure_noise_is_negative_as_often_as_not():
    """Truth: means of 20 pairs of an unbiased ĝ; their average is 0 up to 4 standard errors."""
    from sketchbench.builtin.workloads.moments import Moments

    rng = torch.Generator().manual_seed(0)
    found = []
    for _ in range(200):
        moments = Moments()
        for _ in range(20):
            exact = torch.ones(3)
            moments.add(exact + torch.randn(3, generator=rng), exact)
        found.append(GradientBias()(moments.sample()))
    values = torch.tensor(found)
    assert values.mean().abs() < 4 * values.std() / math.sqrt(200)
    assert 60 < (values < 0).sum() < 160


def test_variance_and_mean_error_are_relative_to_the_mean_gradient():
    found = sample([3.0, 4.0, 5.0], [3.0, 4.0, 0.0])
    assert GradientVariance()(found) == pytest.approx(2 / 25)
    assert MeanGradientError()(found) == 1


def test_nothing_differs_from_nothing():
    found = sample([0.0], [0.0], variances=(0.0, 0.0, 0.0))
    assert GradientBias()(found) == GradientVariance()(found) == MeanGradientError()(found) == 0


@pytest.mark.parametrize("score", [GradientBias(), GradientVariance(), MeanGradientError()])
@pytest.mark.parametrize(
    ("sketched", "exact", "variance", "told"),
    [
        (1.0, 0.0, 2.0, "mean exact gradient, whose squared norm is 0"),
        (1e9, 1e-160, 1e18, "whose squared norm is 9.9.*e-321"),  # no quotient is finite
        (math.nan, 1.0, math.nan, "aren't all finite"),
        (1.0, math.inf, 1.0, "aren't all finite"),
        (0.0, math.nan, 0.0, "aren't all finite"),
    ],
)
def test_what_has_no_relative_size_is_missing(score, sketched, exact, variance, told):
    tensors = (torch.tensor([each], dtype=torch.double) for each in (sketched, exact))
    outcome = GradientSample(torch.ones(2), *tensors, variance, 1.0, 0.0)
    with pytest.raises(Missing, match=told):
        score(outcome)


def test_the_cosine_of_two_tensors():
    exact = torch.tensor([[3.0, 4.0]])
    assert Cosine()(Approximation(exact, 2 * exact)) == pytest.approx(1)
    assert Cosine()(Approximation(exact, torch.tensor([[-4.0, 3.0]]))) == 0
    assert Cosine()(Approximation(exact, 0 * exact)) == 0
    assert math.isnan(Cosine()(Approximation(exact, math.nan * exact)))


def test_ranks_of_equal_singular_values_are_their_number():
    spectra = Spectra((torch.ones(3), torch.tensor([2.0, 2.0, 0.0, 0.0, 0.0])))
    assert StableRank()(spectra) == pytest.approx((3 + 2) / 2)
    assert EffectiveRank()(spectra) == pytest.approx((3 + 2) / 2)


def test_ranks_of_a_decaying_spectrum():
    values = torch.tensor([2.0, 1.0, 1.0])
    assert StableRank()(Spectra((values,))) == pytest.approx(6 / 4)
    entropy = 0.5 * math.log(2) + 0.5 * math.log(4)
    assert EffectiveRank()(Spectra((values,))) == pytest.approx(math.exp(entropy))


def test_a_zero_matrix_has_rank_zero():
    assert StableRank()(Spectra((torch.zeros(3),))) == 0
    assert EffectiveRank()(Spectra((torch.zeros(3),))) == 0
