"""Seeds: a sketch that draws some part of itself twice, or from elsewhere, is caught."""

import numpy as np
import pytest
import torch
from torch import Generator

from sketchbench import Field, GradientSketch
from sketchbench.linalg import normals, seed_of, stream
from sketchbench.testing import gradient_seeds as seeds

BLOCK = 8  # rows, or 32 columns, from one seed


class Peer(GradientSketch):
    """Gaussian entries in blocks of rows or of columns, each from a seed; `fault` is how."""

    name = "peer"
    out_size: int = Field(16, ge=1, description="D.")
    fault: str = Field("", description="How the seeds of blocks are made.")

    def build(self, size, rng, device):
        if self.fault == "global numpy":
            np.random.random()
        if self.fault == "global torch":
            torch.rand(1)
        if self.fault == "fixed":
            rng.manual_seed(0)
        if self.fault == "entropy":
            rng.seed()
        seed = rng.initial_seed() if self.fault == "additive" else seed_of(rng)
        width = 32 if self.fault == "equal blocks" else size
        blocks = [
            [
                self.block(seed, row, 0 if column >= 3 * width else column, width)
                for column in range(0, size, width)
            ]
            for row in range(-(-self.out_size // BLOCK))
        ]
        matrix = torch.cat([torch.cat(row, 1) for row in blocks])[: self.out_size, :size]
        if self.fault == "equal rows":
            matrix[5] = matrix[2]
        return Held(matrix / self.out_size**0.5, self.fault)

    def block(self, seed, row, column, width):
        if self.fault.startswith("additive"):  # trak 0.3.2 and dattri 0.3.0
            counted = seed + 1000 * row + 100_000 * 0
            return torch.randn(BLOCK, width, generator=Generator().manual_seed(counted))
        return normals(stream(seed, self.name, 2**20 * row + column), BLOCK, width)


class Held:
    def __init__(self, matrix, fault):
        self.matrix = matrix
        self.shape = tuple(matrix.shape)
        self.fault = fault
        self.out = torch.zeros(matrix.shape[0])

    def apply(self, x):
        if self.fault == "threads":
            return x @ self.matrix.mT * torch.get_num_threads()
        if self.fault == "one buffer" and x.ndim == 1:
            return torch.mv(self.matrix, x, out=self.out)
        if self.fault == "wears out":
            self.matrix = self.matrix * (1 + 1e-6)
        return x @ self.matrix.mT

    def adjoint(self, y):
        return y.double() @ self.matrix.double()

    def __getstate__(self):
        state = dict(self.__dict__)
        if self.fault == "forgets":
            state["matrix"] = torch.zeros_like(self.matrix)
        return state


@pytest.mark.parametrize("law", seeds.LAWS, ids=lambda law: law.__name__)
def test_a_sketch_whose_blocks_are_hashed_passes(law):
    law(Peer())


@pytest.mark.parametrize(
    ("fault", "law", "said"),
    [
        ("entropy", seeds.repeats_from_its_seed, "the same seed to build the same S"),
        ("one buffer", seeds.repeats_from_its_seed, "Sx to stay what it is"),
        ("wears out", seeds.repeats_from_its_seed, "two products with one S to be equal"),
        ("threads", seeds.does_not_depend_on_threads, "the same with two threads"),
        ("fixed", seeds.differs_with_its_seed, "seeds 0 and 1 to build different"),
        (
            "additive",
            seeds.shares_nothing_between_seeds,
            "for a generator's seed .* and 1000: draw",
        ),
        (
            "additive, drawn",
            seeds.shares_nothing_between_seeds,
            "for a drawn seed .* and 1000: draw",
        ),
        (
            "fixed",
            seeds.shares_nothing_between_seeds,
            "row 0 of S .* is row 0 of S for that and 1:",
        ),
        ("equal rows", seeds.shares_nothing_between_seeds, "row 2 of S .* is row 5 of S"),
        ("equal blocks", seeds.shares_nothing_between_blocks, "from column 0 and from 96 are"),
        ("forgets", seeds.comes_back_from_a_pickle, "a sketch from a pickle to be the same S"),
        ("entropy", seeds.comes_back_from_a_pickle, "a recipe from a pickle to build the same S"),
        ("global torch", seeds.leaves_the_global_generator, "torch's global generator"),
        ("global numpy", seeds.leaves_the_global_generator, "numpy's global generator"),
    ],
)
def test_a_shared_or_stray_draw_is_caught(fault, law, said):
    with pytest.raises(AssertionError, match=said):
        law(Peer(fault=fault))


def test_a_recipe_that_carries_a_vector_is_too_large_for_a_seed():
    with pytest.raises(AssertionError, match="expected a recipe of at most 65536 bytes"):
        seeds.comes_back_from_a_pickle(Peer(fault="x" * 70_000))


@pytest.mark.parametrize("first", [0, 1, 2**31, 2**40 + 1000, 2**62 + 12345])
def test_a_generator_can_be_made_to_draw_any_seed_first(first):
    left, right = (seeds.drawing(first, seed) for seed in (1, 2))
    assert seed_of(left) == seed_of(right) == first
    assert seed_of(left) != seed_of(right)
