"""Fastfood: its matrix against its definition, the vectors that break it, and its repair."""

import pytest
import torch
from pydantic import ValidationError
from sketchbench_dense import Fastfood, SignedFastfood
from torch import Generator

from sketchbench.linalg import adversarial, fwht, hadamard

CPU = torch.device("cpu")
BOTH = [Fastfood, SignedFastfood]


def built(recipe, size, seed=0):
    return recipe.build(size, Generator().manual_seed(seed), CPU)


def definition(s, order, blocks):
    """Return Σ_b B_b H Π_b G_b H B′_b as (order, blocks·order), block by block, from its parts."""
    h = hadamard(order, torch.float64, CPU)
    parts = []
    for b in range(blocks):
        chosen = torch.eye(order).double()[s._places[b].long()]
        part = s._after[b].double().diag() @ h @ chosen @ s._gauss[b].double().diag() @ h
        parts.append(part if s._before is None else part @ s._before[b].double().diag())
    return torch.cat(parts, 1)


def kappa(x, order):
    """Return 1 + Σ_b (D·‖H x_b‖₄⁴ − ‖x_b‖⁴) for unit x, over B, Π and G alone."""
    h = fwht(torch.nn.functional.pad(x, (0, -len(x) % order)).view(-1, order))
    return float(1 + (order * h.pow(4).sum(1) - h.square().sum(1).square()).sum())


@pytest.mark.parametrize("recipe", BOTH)
@pytest.mark.parametrize(("order", "size"), [(8, 29), (8, 8), (8, 3), (1, 5)])
def test_it_is_its_definition(recipe, order, size):
    s = built(recipe(out_size=order), size)
    dense = s.apply(torch.eye(size, dtype=torch.float64)).mT
    expected = definition(s, order, -(-size // order))[:, :size]
    torch.testing.assert_close(dense, expected, rtol=0, atol=1e-14)
    transposed = s.adjoint(torch.eye(order, dtype=torch.float64))
    torch.testing.assert_close(transposed, expected, rtol=0, atol=1e-14)


def test_every_block_has_a_permutation_and_blocks_of_all_tiles_differ():
    s = built(Fastfood(out_size=4), 4 * 2**15)  # two tiles
    in_order = torch.arange(4, dtype=torch.int32).expand(2**15, 4)
    assert torch.equal(s._places.sort(1).values, in_order)
    first, second = s._gauss.view(2, -1)
    assert not torch.equal(first, second)
    # each of 24 permutations is as likely: χ² with 23 degrees of freedom, 23 + 5·√46 at most
    _, counts = torch.unique(s._places, dim=0, return_counts=True)
    assert len(counts) == 24
    expected = 2**15 / 24
    assert float(((counts - expected) ** 2 / expected).sum()) <= 23 + 5 * 46**0.5


@pytest.mark.parametrize("order", [16, 256])
def test_on_a_column_of_h_its_norm_is_that_of_one_gaussian(order):
    """Theorem C.1: ‖Φx‖² = g₁², whatever D is; κ, exactly, is D."""
    x = adversarial(3 * order, order)["column"]
    for seed in range(3):
        s = built(Fastfood(out_size=order), 3 * order, seed)
        found = s.apply(x).square().sum()
        torch.testing.assert_close(found, s._gauss[0, 1].double() ** 2, rtol=1e-12, atol=0)
        assert s.conditional_kappa(x) == pytest.approx(order, rel=1e-12)
    assert kappa(x, order) == pytest.approx(order, rel=1e-12)


def test_what_is_said_to_break_it_does_and_nothing_else():
    """By the exact κ, from one block to 64, where ones no longer do."""
    for order in (8, 16, 64, 256):
        for size in (order // 2 + 3, order, 3 * order + 5, 16 * order, 64 * order):
            guarantee = Fastfood(out_size=order).guarantee(size)
            found = {name: kappa(x, order) for name, x in adversarial(size, order).items()}
            broken = {name for name, value in found.items() if value > guarantee.kappa}
            assert broken == set(guarantee.breaks)
            assert not guarantee.valid or size < order or order <= guarantee.kappa


@pytest.mark.parametrize("size", [7, 64, 100, 1000])
def test_the_kappa_of_ones_is_exact(size):
    x = torch.ones(size, dtype=torch.float64) / size**0.5
    assert Fastfood(out_size=64)._kappa_of_ones(size) == pytest.approx(kappa(x, 64), rel=1e-12)


@pytest.mark.parametrize("name", ["column", "ones", "gaussian"])
def test_signs_on_the_side_of_the_input_repair_it(name):
    """κ = 1 + 2·Σ_b (‖x_b‖⁴ − ‖x_b‖₄⁴): the mean of exact ones, to five standard errors."""
    order, size, draws = 32, 96, 100
    x = adversarial(size, order)[name]
    found = torch.tensor(
        [
            built(SignedFastfood(out_size=order), size, seed).conditional_kappa(3 * x)
            for seed in range(draws)
        ]
    )
    blocks = x.view(-1, order)
    expected = float(1 + 2 * (blocks.square().sum(1) ** 2 - blocks.pow(4).sum(1)).sum())
    assert abs(float(found.mean()) - expected) <= 5 * float(found.std()) / draws**0.5
    assert expected <= SignedFastfood(out_size=order).guarantee(size).kappa + 1e-12


@pytest.mark.parametrize("recipe", BOTH)
def test_its_exact_kappa_is_that_of_its_covariance(recipe):
    """D·‖C‖² of C = Σ over Gaussians of the columns that they scale, from the definition."""
    order, size = 8, 29
    s = built(recipe(out_size=order), size)
    x = torch.randn(size, generator=Generator().manual_seed(1), dtype=torch.float64)
    columns = []
    for entry in range(4 * order):  # Φx is linear in the Gaussians: take them one by one
        alone = built(recipe(out_size=order), size)
        alone._gauss.zero_().view(-1)[entry] = 1.0
        columns.append(alone.apply(x / x.norm()))
    covariance = sum(torch.outer(column, column) for column in columns)
    assert s.conditional_kappa(x) == pytest.approx(order * float(covariance.square().sum()))


@pytest.mark.parametrize("recipe", BOTH)
def test_d_is_a_power_of_two(recipe):
    with pytest.raises(ValidationError, match="48 is no power of two"):
        recipe(out_size=48)


@pytest.mark.parametrize("recipe", BOTH)
def test_vectors_of_another_length_are_refused(recipe):
    s = built(recipe(out_size=8), 20)
    with pytest.raises(ValueError, match=f"{recipe.name}: expected vectors of 20 entries; got 19"):
        s.apply(torch.ones(19))
    with pytest.raises(ValueError, match=f"{recipe.name}: expected vectors of 8 entries; got 20"):
        s.adjoint(torch.ones(20))
    with pytest.raises(ValueError, match=f"{recipe.name}: entries 18 … 21 of a vector of 20"):
        s.accumulate(torch.zeros(8), torch.ones(3), 18)
