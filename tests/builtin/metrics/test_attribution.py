"""Correlations against closed forms and SciPy's, top-k overlap, layers, datamodels."""

import pytest
import torch
from pydantic import ValidationError

from sketchbench import Approximation, Missing
from sketchbench.builtin import (
    LayerPearson,
    LinearDatamodelingScore,
    Pearson,
    Spearman,
    TopKOverlap,
)
from sketchbench.builtin.workloads.attribution import LayerPairs
from sketchbench.builtin.workloads.datamodel import Datamodel


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_correlations_are_scipys_averaged_over_draws():
    stats = pytest.importorskip("scipy.stats")
    exact = random(5, 7).expand(2, 5, 7)
    approx = exact + random(2, 5, 7, seed=1)
    outcome = Approximation(exact, approx)
    for score, truth in ((Pearson(), stats.pearsonr), (Spearman(), stats.spearmanr)):
        each = [truth(e.flatten(), a.flatten())[0] for e, a in zip(exact, approx, strict=True)]
        assert score(outcome) == pytest.approx(sum(each) / 2, abs=1e-12)


def test_correlations_know_scale_shift_and_order():
    exact = random(1, 4, 6)
    assert Pearson()(Approximation(exact, 3 * exact - 7)) == pytest.approx(1)
    assert Pearson()(Approximation(exact, -exact)) == pytest.approx(-1)
    cubed = Approximation(exact, exact**3)
    assert Spearman()(cubed) == pytest.approx(1)
    assert Pearson()(cubed) < 0.99


@pytest.mark.parametrize("bad", [torch.ones(1, 4, 6), torch.full((1, 4, 6), float("nan"))])
def test_there_is_no_correlation_with_constants_or_with_what_is_not_finite(bad):
    with pytest.raises(Missing, match="the same|not all numbers are finite"):
        Pearson()(Approximation(random(1, 4, 6), bad))


def test_overlap_counts_the_largest_entries_of_each_row():
    exact = torch.tensor([[[5.0, 4, 3, 2, 1], [1, 2, 3, 4, 5]]])
    approx = torch.tensor([[[5.0, 1, 4, 2, 3], [9, 8, 7, 6, 5]]])
    outcome = Approximation(exact, approx)
    assert TopKOverlap(k=2)(outcome) == (1 + 0) / 4
    assert TopKOverlap(k=3)(outcome) == (2 + 1) / 6
    with pytest.raises(Missing, match="a row has 5 entries"):
        TopKOverlap(k=5)(outcome)


@pytest.fixture
def layers():
    parts = {"0.tokens": random(3, 4), "1.norm": torch.zeros(3, 4), "2": 10 * random(3, 4, seed=1)}
    return LayerPairs(sum(parts.values()), parts)


def test_layers_are_judged_alone_or_together(layers):
    large = LayerPearson(over="last")(layers)
    assert LayerPearson()(layers) == large > 0.97
    assert LayerPearson(layers="0.*")(layers) == LayerPearson(over="worst")(layers) < large
    assert LayerPearson(layers="*")(layers) == pytest.approx(1)
    with pytest.raises(Missing, match=r"no layer matches 'emb'; the model has 0.tokens, 1.norm, 2"):
        LayerPearson(layers="emb")(layers)
    with pytest.raises(ValidationError, match="over 'last' and layers exclude each other"):
        LayerPearson(over="last", layers="2")


def test_scores_that_add_up_to_the_loss_foretell_it_exactly():
    scores = random(1, 3, 12)
    members = random(9, 12, seed=2) > 0
    losses = 5 - (members.double() @ scores[0].mT) ** 3
    found = Datamodel({"dot": scores, "whitened": -scores}, members, losses)
    assert LinearDatamodelingScore()(found) == pytest.approx(1)
    assert LinearDatamodelingScore(scores="whitened")(found) == pytest.approx(-1)


def test_two_subsets_are_too_few():
    few = Datamodel({"dot": random(1, 3, 4)}, torch.ones(2, 4, dtype=torch.bool), random(2, 3))
    with pytest.raises(Missing, match="2 subsets"):
        LinearDatamodelingScore()(few)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("score", [Pearson(), Spearman(), TopKOverlap(k=2)])
def test_a_number_that_is_not_finite_has_no_rank(score, value):
    exact = random(1, 4, 6)
    approx = exact.clone()
    approx[0, 1, 2] = value
    with pytest.raises(Missing, match="not all numbers are finite"):
        score(Approximation(exact, approx))
