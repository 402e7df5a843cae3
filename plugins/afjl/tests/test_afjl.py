"""AFJL against its dense definition, and the pairs on which it fails."""

import pytest
import torch
from pydantic import ValidationError
from sketchbench_afjl import AFJL
from torch import Generator

from sketchbench.linalg import adversarial, hadamard

CPU = torch.device("cpu")


def built(size, seed=0, **fields):
    fields = {"out_size": 16, "factor_size": 16, **fields}
    return AFJL(**fields).build(size, Generator().manual_seed(seed), CPU)


def permuted(sketch):
    """H^π₁ (M, M), whole."""
    found = torch.ones(1, 1, dtype=torch.float64)
    for rows in sketch._rows:
        found = torch.kron(found, hadamard(len(rows), torch.float64, CPU)[rows])
    return found


@pytest.mark.parametrize("size", [1, 5, 256, 300])
def test_apply_and_adjoint_are_products_with_the_matrix_of_equation_7(size):
    sketch = built(size)
    rng = Generator().manual_seed(1)
    x = torch.randn(2, size, generator=rng, dtype=torch.float64)
    y = torch.randn(2, 16, generator=rng, dtype=torch.float64)
    whole = permuted(sketch)
    scale = (len(whole) / 16) ** 0.5
    matrix = scale * sketch._gaussians.double()[:, None] * whole[:16, :size] * sketch._signs
    torch.testing.assert_close(sketch.apply(x), x @ matrix.mT, rtol=0, atol=1e-12)
    torch.testing.assert_close(sketch.adjoint(y), y @ matrix, rtol=0, atol=1e-12)


def test_of_a_pair_either_nothing_or_twice_its_energy_is_left():
    """At D = a factor's order: the rows agree but for a sign each, and the signs decide."""
    x = adversarial(256, 16)["pair"]
    left = {0.0: 0, 2.0: 0}
    for seed in range(60):
        sketch = built(256, seed)
        rows = sketch._scale * sketch._mixed(x)[:16]  # before the Gaussian diagonal
        left[round(float(rows.square().sum()), 9)] += 1
    assert min(left.values()) >= 12  # of 60 fair coins; fewer with a probability of 5e-7


@pytest.mark.parametrize("out_size", [16, 64])
@pytest.mark.parametrize("name", ["gaussian", "axis", "pair", "half-pair", "column", "ones"])
def test_kappa_is_the_closed_form(name, out_size):
    """3 − 2 Σ p_i² + D Σ_{i≠j} W_ij p_i p_j, to five standard errors of exact conditional κ."""
    recipe = AFJL(out_size=out_size, factor_size=16)
    x = adversarial(256, out_size)[name]
    share = x.square()
    weight = torch.tensor([0.0, *(recipe.agreement(256, t) for t in range(1, 256))])
    i = torch.arange(256)
    pairs = weight.double()[i[:, None] ^ i] * share * share[:, None]
    expected = float(3 - 2 * share.square().sum() + out_size * pairs.sum())
    draws = [built(256, seed, out_size=out_size).conditional_kappa(x) for seed in range(300)]
    found = torch.tensor(draws, dtype=torch.float64)
    error = float(found.std()) / len(found) ** 0.5
    assert abs(float(found.mean()) - expected) <= 5 * error + 1e-9


@pytest.mark.parametrize(
    ("size", "out_size", "breaks"),
    [
        (2**14, 256, ("pair", "half-pair")),  # 128 × 128: two rows of one factor, all of the other
        (2**14, 128, ("pair",)),  # half a pair's distance is within the factor of which all is held
        (2**20, 4096, ("pair", "half-pair")),
        (1024, 256, ()),  # one factor: rows at random
        (100, 128, ()),  # every row
    ],
)
def test_breaks_are_the_pairs_on_which_rows_agree(size, out_size, breaks):
    assert AFJL(out_size=out_size).guarantee(size).breaks == breaks


@pytest.mark.parametrize("out_size", [256, 2048])
def test_dense_inputs_keep_the_kappa_that_it_declares(out_size):
    """Exactly, at N = 2¹⁴: κ of every named input that isn't named as breaking it."""
    size, recipe = 2**14, AFJL(out_size=out_size)
    declared = recipe.guarantee(size)
    weight = torch.tensor([0.0, *(recipe.agreement(size, t) for t in range(1, size))]).double()
    h = [hadamard(128, torch.float64, CPU)] * 2
    for name, x in adversarial(size, out_size).items():
        share = x.square()
        spectrum = (h[0] @ share.view(128, 128) @ h[1]).square()
        pairs = (h[0] @ spectrum @ h[1]).flatten() * size**0.5  # Σ p_i p_j with i ⊕ j = t
        kappa = float(3 - 2 * share.square().sum() + out_size * weight @ pairs)
        assert (kappa > declared.kappa) == (name in declared.breaks), (name, kappa)


@pytest.mark.parametrize("field", ["out_size", "factor_size"])
def test_sizes_that_are_no_power_of_two_are_refused(field):
    with pytest.raises(ValidationError, match=f"{field} 100 is no power of two; take 64 or 128"):
        AFJL(**{field: 100})
