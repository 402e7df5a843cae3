"""Layer selection and random masks: which coordinates stay, and what that does to norms."""

import pytest
import torch
from sketchbench_dense import Gaussian, LayerSelection, RandomMask
from torch import Generator

CPU = torch.device("cpu")
SIZES = {"embedding.weight": 6, "layer.0.weight": 4, "layer.0.bias": 2, "head.weight": 3}


def built(recipe, size, seed=0):
    return recipe.build(size, Generator().manual_seed(seed), CPU)


def selected(layers, **fields):
    recipe = LayerSelection(layers=layers, **fields)
    return recipe.build_named(SIZES, Generator().manual_seed(0), CPU)


@pytest.mark.parametrize(
    ("layers", "kept"),
    [
        ("*", range(15)),
        ("layer.0.*", range(6, 12)),
        ("*.weight", [*range(10), 12, 13, 14]),
        ("head.weight", range(12, 15)),
    ],
)
def test_it_takes_the_parameters_that_match(layers, kept):
    s = selected(layers)
    expected = torch.eye(15)[list(kept)]
    assert torch.equal(s.apply(torch.eye(15)).mT, expected)
    assert torch.equal(s.adjoint(torch.eye(len(kept))), expected)


def test_an_out_size_projects_what_is_selected():
    s, gaussian = selected("layer.0.*", out_size=5), built(Gaussian(out_size=5), 6)
    x = torch.randn(3, 15, generator=Generator().manual_seed(1), dtype=torch.float64)
    assert torch.equal(s.apply(x), gaussian.apply(x[:, 6:12]))
    back = s.adjoint(s.apply(x))
    assert torch.equal(back[:, 6:12], gaussian.adjoint(s.apply(x)))
    assert not back[:, :6].any()
    assert not back[:, 12:].any()


def test_it_is_biased_unless_it_takes_all():
    assert LayerSelection().guarantee(15).valid
    assert not LayerSelection(layers="layer.*").guarantee(15).unbiased


def test_a_pattern_that_matches_nothing_is_refused_with_what_there_is():
    known = "embedding.weight, layer.0.weight, layer.0.bias, head.weight"
    with pytest.raises(ValueError, match=rf"'layers.\*' matches no parameter of {known}"):
        selected("layers.*")


def test_a_flat_vector_has_no_layers():
    with pytest.raises(ValueError, match="no names to hold against 'head.weight'"):
        built(LayerSelection(layers="head.weight"), 15)


@pytest.mark.parametrize("rescaled", [False, True])
def test_a_mask_takes_distinct_coordinates_in_order(rescaled):
    s = built(RandomMask(out_size=10, rescaled=rescaled), 40)
    dense = s.apply(torch.eye(40)).mT
    places = dense.argmax(1)
    assert torch.equal(places, places.unique())
    assert torch.equal(dense, torch.eye(40)[places] * (2.0 if rescaled else 1.0))
    assert torch.equal(s.adjoint(torch.eye(10)), dense)


@pytest.mark.parametrize("rescaled", [False, True])
def test_the_norms_of_a_mask_have_the_mean_and_spread_that_are_said(rescaled):
    """Mean D/N, κ = (D/N)²·(N − D)/2·(N·‖x‖₄⁴ − 1)/(N − 1): 4000 draws, to six standard errors."""
    size, out_size, draws = 12, 5, 4000
    x = torch.tensor([0.8, 0.4, 0.4, 0.2] + 8 * [0.0], dtype=torch.float64)
    recipe = RandomMask(out_size=out_size, rescaled=rescaled)
    norms = torch.stack([built(recipe, size, n).apply(x).square().sum() for n in range(draws)])
    mean = 1.0 if rescaled else out_size / size
    assert abs(float(norms.mean()) - mean) <= 6 * float(norms.std()) / draws**0.5
    spreads = out_size * (norms - mean).square() / 2
    share = float(size * x.pow(4).sum() - 1) / (size - 1)
    expected = recipe.guarantee(size).kappa * share
    assert abs(float(spreads.mean()) - expected) <= 6 * float(spreads.std()) / draws**0.5
    assert recipe.guarantee(size).unbiased == rescaled


def test_a_mask_of_more_than_there_is_keeps_everything():
    s = built(RandomMask(out_size=5, rescaled=True), 3)
    x = torch.tensor([3.0, 4.0, 5.0])
    assert torch.equal(s.apply(x), torch.tensor([3.0, 4.0, 5.0, 0.0, 0.0]))
    assert torch.equal(s.adjoint(s.apply(x)), x)
    assert RandomMask(out_size=5).guarantee(3).valid


@pytest.mark.parametrize("recipe", [LayerSelection(), RandomMask(out_size=8)])
def test_vectors_of_another_length_are_refused(recipe):
    s = built(recipe, 20)
    with pytest.raises(ValueError, match=f"{recipe.name}: expected vectors of 20 entries; got 21"):
        s.apply(torch.ones(21))
    with pytest.raises(ValueError, match=f"{recipe.name}: expected vectors of .* entries; got 1"):
        s.adjoint(torch.ones(1))
