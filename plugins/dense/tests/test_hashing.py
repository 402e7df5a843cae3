"""Count-Sketch and SJLT: their matrices, their chance of failure, and streams across tiles."""

import pytest
import torch
from pydantic import ValidationError
from sketchbench_dense import SJLT, CountSketch
from sketchbench_dense.hashing import TILE
from torch import Generator

CPU = torch.device("cpu")
RECIPES = [CountSketch(out_size=12), SJLT(out_size=12, nonzeros=3)]


def built(recipe, size, seed=0):
    return recipe.build(size, Generator().manual_seed(seed), CPU)


def materialised(recipe, size, seed=0):
    """Return S (D, N) in float64."""
    return built(recipe, size, seed).apply(torch.eye(size, dtype=torch.float64)).mT


@pytest.mark.parametrize("recipe", RECIPES)
def test_each_column_has_its_entries_in_distinct_stretches(recipe):
    count = getattr(recipe, "nonzeros", 1)
    dense = materialised(recipe, 500)
    stretches = dense.view(count, -1, 500)
    assert ((stretches != 0).sum(1) == 1).all()
    values = dense[dense != 0].abs()
    torch.testing.assert_close(values, torch.full_like(values, count**-0.5), rtol=1e-15, atol=0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_rows_and_signs_are_uniform(recipe):
    """A χ² over rows (each of a column's entries lands in one of D/s), and 50:50 signs."""
    count, size = getattr(recipe, "nonzeros", 1), 20_000
    s = built(recipe, size)
    hits = torch.bincount(s._rows.flatten(), minlength=12)
    expected = count * size / 12
    assert float(((hits - expected) ** 2 / expected).sum()) <= 11 + 5 * 22**0.5
    assert abs(float(s._signs.float().mean())) <= 5 / (count * size) ** 0.5


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_adjoint_is_the_transpose(recipe):
    s = built(recipe, 50)
    transposed = s.adjoint(torch.eye(12, dtype=torch.float64))
    torch.testing.assert_close(transposed, materialised(recipe, 50), rtol=1e-15, atol=0)


@pytest.mark.parametrize("recipe", RECIPES)
def test_streams_cross_tiles_in_any_pieces(recipe):
    """Pieces that begin and end within tiles, of a batch, against one product: equal to rounding.

    Regenerated tiles are the stored ones.
    """
    size = 2 * TILE + 700
    x = torch.randn(2, size, generator=Generator().manual_seed(1), dtype=torch.float64)
    whole = built(recipe, size).apply(x)
    again = built(recipe.model_copy(update={"regenerate": True}), size)
    assert torch.equal(again.apply(x), whole)
    y = torch.randn(12, generator=Generator().manual_seed(2), dtype=torch.float64)
    assert torch.equal(again.adjoint(y), built(recipe, size).adjoint(y))
    for s in (built(recipe, size), again):
        product = torch.zeros(2, 12, dtype=torch.float64)
        for start, stop in ((TILE - 5, TILE + 5), (0, TILE - 5), (TILE + 5, size)):
            s.accumulate(product, x[:, start:stop], start)
        torch.testing.assert_close(product, whole, rtol=0, atol=1e-11)


def test_products_may_be_views_with_strides():
    s, x = built(CountSketch(out_size=12), 40), torch.ones(3, 40)
    held = torch.zeros(12, 3)
    s.accumulate(held.mT, x, 0)
    assert torch.equal(held.mT, s.apply(x))


def test_batches_of_short_and_of_long_vectors_are_their_rows():
    """Short vectors are summed many at a time, long ones one by one."""
    for size in (3, TILE // 2 + 1):
        s = built(CountSketch(out_size=5), size)
        x = torch.randn(7, size, generator=Generator().manual_seed(1))
        assert torch.equal(s.apply(x), torch.stack([s.apply(row) for row in x]))


def test_two_coordinates_collide_with_a_chance_of_one_in_d():
    """(eᵢ + eⱼ)/√2 has norm² 0 or 2 then, 1 otherwise; pairs (0, j) of one draw are independent."""
    out_size, size = 16, 40_000
    s = built(CountSketch(out_size=out_size), size)
    rows, signs = s._rows[0], s._signs[0]
    norms = 1 + (rows[1:] == rows[0]) * signs[1:] * signs[0]
    shown = torch.zeros(3, size)
    shown[:, 0] = shown[0, 1] = shown[1, 2] = shown[2, 3] = 0.5**0.5
    torch.testing.assert_close(s.apply(shown).square().sum(1), norms[:3].float())
    chance = 1 / out_size
    bound = 5 * (chance * (1 - chance) / (size - 1)) ** 0.5
    assert abs(float((norms != 1).float().mean()) - chance) <= bound


@pytest.mark.parametrize("recipe", [CountSketch(out_size=6), SJLT(out_size=6, nonzeros=3)])
def test_its_kappa_is_one_less_the_fourth_norm(recipe):
    """D·Var‖Sx‖²/2 = 1 − ‖x‖₄⁴, whatever s is: 4000 stretches of one S, to six standard errors."""
    draws = 4000
    x = torch.tensor([0.8, 0.4, 0.4, 0.2], dtype=torch.float64)
    s, images = built(recipe, 4 * draws), torch.zeros(draws, 6, dtype=torch.float64)
    for n, image in enumerate(images):
        s.accumulate(image, x, 4 * n)
    spreads = 6 * (images.square().sum(1) - 1).square() / 2
    expected = float(1 - x.pow(4).sum())
    assert abs(float(spreads.mean()) - expected) <= 6 * float(spreads.std()) / draws**0.5


def test_d_is_a_multiple_of_the_nonzeros():
    with pytest.raises(ValidationError, match="out_size 10 is no multiple of nonzeros 4"):
        SJLT(out_size=10)


@pytest.mark.parametrize("recipe", RECIPES)
def test_vectors_of_another_length_are_refused(recipe):
    s = built(recipe, 20)
    with pytest.raises(ValueError, match=f"{recipe.name}: expected vectors of 20 entries; got 19"):
        s.apply(torch.ones(19))
    with pytest.raises(ValueError, match=f"{recipe.name}: expected vectors of 12 entries; got 13"):
        s.adjoint(torch.ones(13))
    with pytest.raises(ValueError, match=f"{recipe.name}: entries -1 … 2 of a vector of 20"):
        s.accumulate(torch.zeros(12), torch.ones(3), -1)
