"""Memory: a sketch that holds or needs more than it says is caught."""

from functools import partial

import numpy as np
import pytest
import torch

from sketchbench import Field, GradientSketch
from sketchbench.testing import gradient_memory as memory
from sketchbench.testing.gradient import accumulates_in_any_pieces

BLOCK = 2**14


class Blocks(GradientSketch):
    """Signs of i mod D, a block at a time; `fault` is what it holds or makes beside that."""

    name = "blocks"
    out_size: int = Field(16, ge=1, description="D.")
    fault: str = Field("", description="What is wrong.")

    def build(self, size, rng, device):
        sign = torch.randint(2, (size,), generator=rng, dtype=torch.int8) * 2 - 1
        return Streamed(sign, self.out_size, self.fault)

    def state_bytes(self, size):
        if self.fault == "silent":
            return None
        return {"twice": 2 * size, "seldom": size + (size == 100)}.get(self.fault, size)


class Streamed:
    __slots__ = ("extra", "fault", "parts", "shape")

    def __init__(self, sign, out_size, fault):
        self.parts = {"signs": [sign, sign[:1]]}  # views are no memory of their own
        self.shape = (out_size, len(sign))
        self.fault = fault
        self.extra = {
            "array": np.zeros(3),
            "closure": lambda: sign.float(),
            "partial": partial(torch.add, torch.zeros(2)),
        }.get(fault)
        if fault == "closure":
            held = torch.zeros(4)
            self.extra = lambda: held

    def apply(self, x):
        product = x.new_zeros(*x.shape[:-1], self.shape[0])
        self.accumulate(product, x, 0)
        if self.fault == "lazily":
            self.extra = product
        return product

    def accumulate(self, product, x, start):
        if self.fault == "copies":
            x = x * 1.0
        if self.fault == "forgets the start":
            start = 0
        sign = self.parts["signs"][0]
        scratch = torch.zeros(self.shape[0], 64) if self.fault == "grows with D" else None
        for low in range(0, x.shape[-1], BLOCK):
            part = x[..., low : low + BLOCK]
            first = start + low
            signed = part * sign[first : first + part.shape[-1]]
            rows = torch.arange(first, first + part.shape[-1]) % self.shape[0]
            product.index_add_(-1, rows, signed)
        if self.fault == "overwrites":
            product.copy_(product * 1.5)
        del scratch

    def adjoint(self, y):
        rows = torch.arange(self.shape[1]) % self.shape[0]
        return y[..., rows] * self.parts["signs"][0]


@pytest.mark.parametrize("law", [*memory.LAWS, accumulates_in_any_pieces], ids=lambda f: f.__name__)
def test_a_sketch_that_streams_passes(law):
    law(Blocks())


@pytest.mark.parametrize(
    ("fault", "law", "said"),
    [
        ("twice", memory.holds_the_bytes_that_it_declares, "the 1 bytes .* as it is built; .* 2$"),
        ("seldom", memory.holds_the_bytes_that_it_declares, r"state_bytes\(100\) to be the 100 b"),
        ("lazily", memory.holds_the_bytes_that_it_declares, "the 129 bytes .* after two products"),
        ("array", memory.holds_the_bytes_that_it_declares, "the 25 bytes"),
        ("closure", memory.holds_the_bytes_that_it_declares, "the 17 bytes"),
        ("partial", memory.holds_the_bytes_that_it_declares, "the 9 bytes"),
        ("copies", memory.streams_without_a_copy, "less than the 2097152 bytes of the vector"),
        ("grows with D", memory.streams_without_a_copy, "not to grow with D"),
        ("forgets the start", accumulates_in_any_pieces, "cut at .* to add Sx"),
        ("overwrites", accumulates_in_any_pieces, "to add Sx"),
    ],
)
def test_memory_that_is_not_declared_is_caught(fault, law, said):
    with pytest.raises(AssertionError, match=said):
        law(Blocks(fault=fault))


def test_without_a_declaration_nothing_is_asserted():
    with pytest.raises(pytest.skip.Exception, match=r"blocks declares no state_bytes\(size\)"):
        memory.holds_the_bytes_that_it_declares(Blocks(fault="silent"))


def test_a_sketch_that_sees_whole_vectors_is_not_asked_to_stream():
    class Whole(Blocks):
        """Has no accumulate."""

        name = "whole"

        def build(self, size, rng, device):
            built = super().build(size, rng, device)

            class Closed:
                shape, apply, adjoint = built.shape, built.apply, built.adjoint

            return Closed()

    for law in (memory.streams_without_a_copy, accumulates_in_any_pieces):
        with pytest.raises(pytest.skip.Exception, match="whole builds has no accumulate"):
            law(Whole())
