"""The adversary finds what breaks sketches that it knows nothing of, and nothing in valid ones."""

import math

import pytest
import torch
from torch import Generator

from sketchbench import Field, GradientSketch
from sketchbench.linalg import apply_kronecker, fwht, normals, orthogonal, seed_of, signs, stream
from sketchbench.testing.adversary import judge_input, search
from sketchbench.testing.adversary_starts import starts
from sketchbench.testing.gradient_evidence import LEVEL

SIZE, OUT_SIZE = 256, 16


class Planted(GradientSketch):
    """A sketch as small as can be, held as a matrix (D, N): S of the rows of `matrix`."""

    out_size: int = Field(OUT_SIZE, ge=1, description="D.")

    def build(self, size, rng, device):
        seed = seed_of(rng)
        return Held(self.matrix(size, lambda part: stream(seed, part)))


class Held:
    def __init__(self, matrix):
        self.matrix = matrix
        self.shape = tuple(matrix.shape)

    def apply(self, x):
        return x @ self.matrix.mT

    def adjoint(self, y):
        return y @ self.matrix


class Fastfood(Planted):
    """Σ_b B_b H Π_b G_b H x_b: broken by a Walsh function in one block."""

    name = "planted-fastfood"

    def matrix(self, size, draw):
        gauss = normals(draw("gauss"), size // self.out_size, self.out_size)
        places = torch.from_numpy(
            draw("places").permuted(torch.arange(self.out_size).expand(gauss.shape).numpy(), axis=1)
        )
        sign = signs(draw("signs"), size).view(gauss.shape).float()
        eye = torch.eye(size).unflatten(1, gauss.shape)
        mixed = (fwht(eye) * gauss).gather(-1, places.expand(eye.shape))
        return (fwht(mixed) * sign).sum(1).mT


class FixedHash(Planted):
    """A Count-Sketch to i mod D, as AFJL's first D rows are: broken by coordinates D apart."""

    name = "planted-fixed-hash"

    def matrix(self, size, draw):
        sign = signs(draw("signs"), size).float()
        return sign * torch.eye(self.out_size).repeat(1, size // self.out_size)


class Truncated(Planted):
    """The first D rows of Q₁ ⊗ Q₂, as Listing 2 has it: one row of Q₁, broken by coherent x."""

    name = "planted-truncated"

    def matrix(self, size, draw):
        side = math.isqrt(size)
        factors = [orthogonal(draw(part), side).float() for part in ("left", "right")]
        rows = apply_kronecker(torch.eye(size), [q.contiguous() for q in factors])
        return rows.mT[: self.out_size] * (size / self.out_size) ** 0.5


class Folded(Planted):
    """fold_D(G·H·B·x): valid, κ ≤ 3."""

    name = "planted-fold"

    def matrix(self, size, draw):
        mixed = fwht(torch.eye(size)).mT * normals(draw("gauss"), size)[:, None]
        sign = signs(draw("signs"), size).float()
        return mixed.unflatten(0, (-1, self.out_size)).sum(0) * sign


class Dense(Planted):
    """Gaussian entries: valid, κ = 1."""

    name = "planted-dense"

    def matrix(self, size, draw):
        return normals(draw("gauss"), self.out_size, size) / self.out_size**0.5


@pytest.mark.parametrize("broken", [Fastfood, FixedHash, Truncated])
def test_what_breaks_a_sketch_is_found(broken):
    """κ is about D on the worst input of each, and at most 3 in a valid sketch."""
    found = search(broken(), SIZE, draws=128, judged=500, confidence=1 - LEVEL)
    assert found.low > OUT_SIZE / 4, found
    assert found.failures_between[0] > 0.3, found


@pytest.mark.parametrize(("valid", "kappa"), [(Folded, 3.0), (Dense, 1.0)])
def test_nothing_is_found_in_a_valid_sketch(valid, kappa):
    found = search(valid(), SIZE, draws=128, judged=500, confidence=1 - LEVEL)
    assert found.low <= kappa, found
    assert found.high >= 0.5 * kappa, found


@pytest.mark.nightly
@pytest.mark.parametrize("broken", [Fastfood, FixedHash, Truncated])
def test_what_breaks_a_sketch_grows_with_its_size(broken):
    found = search(broken(out_size=64), 1024, draws=128, confidence=1 - LEVEL)
    assert found.low > 64 / 4, found


def test_a_search_repeats_from_its_seed():
    first, second, other = (
        search(Dense(), 32, seed, rounds=1, draws=8, candidates=64, judged=20) for seed in (1, 1, 2)
    )
    assert torch.equal(first.input, second.input)
    assert str(first) == str(second) != str(other)


def test_the_judge_gives_kappa_and_failures_with_intervals():
    """κ of a fixed hash on two coordinates D apart: ‖Sx‖² is 0 or 2, so κ = D/2 and all fail."""
    x = torch.zeros(SIZE)
    x[[3, 3 + OUT_SIZE]] = 1.0
    found = judge_input(FixedHash(), x, first=0, draws=200)
    assert found.kappa == pytest.approx(OUT_SIZE / 2, rel=1e-5)
    assert 0.8 * found.kappa < found.low < found.kappa
    assert found.failures == 1
    assert found.failures_between[1] == 1
    assert found.failures_between[0] == pytest.approx(0.005 ** (1 / 200))


def test_the_clopper_pearson_interval_of_no_failure():
    x = torch.ones(SIZE)
    found = judge_input(FixedHash(out_size=SIZE), x, first=0, draws=100)
    assert found.failures == 0
    assert found.failures_between == (0.0, pytest.approx(1 - 0.005 ** (1 / 100)))


def test_every_start_is_a_unit_vector_and_sizes_need_be_no_power_of_two():
    for size in (2, 3, 100, 256):
        found = starts(size, 70, Generator().manual_seed(0))
        assert found.shape[1] == size
        torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found)))


def test_a_search_that_needs_too_much_memory_says_so():
    with pytest.raises(ValueError, match="more than 2²⁷ entries; search at a smaller size"):
        search(Dense(out_size=512), 2**12)
