"""Laws of what a gradient sketch draws: all of it from its seed, and no part of it twice."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import numpy as np
import torch
from torch import Generator, Tensor

from sketchbench import GradientSketch, LinearSketch
from sketchbench.testing.gradient_subject import (
    CPU,
    built,
    close,
    draws_at_random,
    normal,
    out_size_of,
)

APART = (1, 1000, 100_000)  # the strides with which peers count blocks and models [trak, dattri]
LONG = 16  # nonzero entries from which on two equal rows, or stretches, can't be chance
STRETCH = 32  # columns
THREADED = 40_000  # entries; torch splits no less than 32 768 among threads
PICKLED = 64 * 1024  # bytes of a recipe


def repeats_from_its_seed(subject: GradientSketch) -> None:
    """The same seed is the same S, to the bit, and S stays what it is between products."""
    x, y = normal(2, 100, seed=1)
    s = built(subject, 100, seed=5)
    first = s.apply(x)
    kept = first.clone()
    s.apply(y)
    assert torch.equal(first, kept), "expected Sx to stay what it is when S is applied again"
    second, again = s.apply(x), built(subject, 100, seed=5).apply(x)
    assert torch.equal(first, second), "expected two products with one S to be equal"
    assert torch.equal(first, again), "expected the same seed to build the same S"


def does_not_depend_on_threads(subject: GradientSketch) -> None:
    """With another number of threads S is the same, and Sx is to rounding."""
    x, before = normal(THREADED, seed=1), torch.get_num_threads()
    images = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            images.append(built(subject, THREADED).apply(x))
    finally:
        torch.set_num_threads(before)
    close(images[1], images[0], "Sx to be the same with two threads as with one", 1e-5)


def differs_with_its_seed(subject: GradientSketch) -> None:
    """Another seed is another S."""
    draws_at_random(subject, 100)
    x = normal(100, seed=1)
    images = [built(subject, 100, seed).apply(x) for seed in range(4)]
    for n, image in enumerate(images):
        same = [m for m in range(n) if torch.equal(images[m], image)]
        assert not same, f"expected seeds {same[0]} and {n} to build different sketches"


def shares_nothing_between_seeds(subject: GradientSketch) -> None:
    """No row of S for one seed is a row of S for another, 1, 1000 or 100 000 further on.

    Nor of one S twice. A seed is that of the generator, and then the number that is drawn from
    it first (`seed_of`), since blocks that count on from the number collide all the same.
    """
    size = _size(subject)
    draws_at_random(subject, size)
    for what, more, rng in _streams():
        rows = _rows(subject.build(size, rng, CPU))
        if more == 0:
            first = rows
        for one, other in _equal(first, rows):
            assert more == 0 and one == other, (  # noqa: PT018  # one sentence of the law
                f"expected no row twice; row {one} of S for {what} is row {other} of S for that "
                f"and {more}: draw from stream(seed, method, block), a hash that no sums repeat"
            )


def shares_nothing_between_blocks(subject: GradientSketch) -> None:
    """No stretch of 48 columns of S is another stretch of it: no block is drawn like another."""
    size = _size(subject)
    draws_at_random(subject, size)
    s = built(subject, size)
    # columns that are equal have equal products with one vector
    combined = s.adjoint(normal(s.shape[0], seed=9, dtype=torch.float64))
    stretches = combined.unfold(0, STRETCH, 1)
    stretches = stretches * ((stretches != 0).sum(1, keepdim=True) >= LONG)
    for at, other in _equal(stretches[::LONG], stretches):
        assert other == LONG * at, (
            f"expected no two stretches of {STRETCH} columns of S to be equal; those from column "
            f"{LONG * at} and from {other} are: draw each block from stream(seed, method, block)"
        )


def comes_back_from_a_pickle(subject: GradientSketch) -> None:
    """A pickled recipe is a few KB, and with a seed makes the same S; so is a pickled S itself."""
    x, s = normal(100, seed=1), built(subject, 100)
    expected = s.apply(x)
    small = pickle.dumps(subject)
    assert len(small) <= PICKLED, f"expected a recipe of at most {PICKLED} bytes; got {len(small)}"
    again = built(pickle.loads(small), 100).apply(x)
    assert torch.equal(again, expected), "expected a recipe from a pickle to build the same S"
    whole = pickle.loads(pickle.dumps(s)).apply(x)
    assert torch.equal(whole, expected), "expected a sketch from a pickle to be the same S"


def leaves_the_global_generator(subject: GradientSketch) -> None:
    """Drawing and applying S take their randomness from the generator handed to build."""
    state = np.random.get_state(legacy=False)
    before = torch.get_rng_state(), repr(state)
    s = built(subject, 100)
    s.adjoint(s.apply(normal(100, seed=1)))
    after = torch.get_rng_state(), repr(np.random.get_state(legacy=False))
    assert torch.equal(before[0], after[0]), (
        "expected torch's global generator to be untouched; draw from the rng handed to build"
    )
    assert before[1] == after[1], (
        "expected numpy's global generator to be untouched; draw from the rng handed to build"
    )


LAWS = (
    repeats_from_its_seed,
    does_not_depend_on_threads,
    differs_with_its_seed,
    shares_nothing_between_seeds,
    shares_nothing_between_blocks,
    comes_back_from_a_pickle,
    leaves_the_global_generator,
)


def _size(subject: GradientSketch) -> int:
    """Return an N at which rows of a sparse sketch of one entry a column are long."""
    return max(256, LONG * out_size_of(subject))


def _rows(s: LinearSketch) -> Tensor:
    """Return the rows of S (D, N), those that are too short to tell as zeros."""
    rows = s.adjoint(torch.eye(s.shape[0], dtype=torch.float64))
    return rows * ((rows != 0).sum(1, keepdim=True) >= LONG)


def _equal(left: Tensor, right: Tensor) -> list[tuple[int, int]]:
    """Return the indices of rows of `left` and `right` that are equal, but for rounding and 0."""
    norms = left.norm(dim=1)[:, None], right.norm(dim=1)
    same = (left @ right.mT > (1 - 1e-9) * norms[0] * norms[1]) & (norms[0] > 0)
    same &= (norms[0] - norms[1]).abs() <= 1e-9 * norms[0]
    return [(i, j) for i, j in same.nonzero().tolist()]


def _streams() -> Iterator[tuple[str, int, Generator]]:
    """Yield generators by what of them is counted: their own seeds, and the first numbers drawn."""
    for more in (0, *APART):
        yield "a generator's seed", more, Generator().manual_seed(more)
    for more in (0, *APART):
        yield "a drawn seed", more, drawing(2**40 + more, seed=77 + more)


def drawing(first: int, seed: int) -> Generator:
    """Return the generator of `seed`, but for the first 63-bit number drawn, which is `first`.

    Two words of the state of the Mersenne twister are replaced by those that are tempered to
    the halves of the number.
    """
    rng = Generator().manual_seed(seed)
    torch.randint(2, (), generator=rng)  # so that the words that come next are there
    state = rng.get_state().numpy()
    following = int(state[16:24].view(np.uint64)[0])
    words = state[24 : 24 + 624 * 8].view(np.uint64)
    words[following] = _untempered(first >> 32)
    words[following + 1] = _untempered(first & 0xFFFFFFFF)
    rng.set_state(torch.from_numpy(state))
    return rng


def _untempered(word: int) -> int:
    """Invert the tempering of MT19937. [Matsumoto & Nishimura 1998]"""
    word ^= word >> 18
    word ^= word << 15 & 0xEFC60000
    mixed = word
    for _ in range(4):
        word = mixed ^ word << 7 & 0x9D2C5680
    mixed = word
    for _ in range(2):
        word = mixed ^ word >> 11
    return word & 0xFFFFFFFF
