"""The running estimate: its buffer, its decay, merging, memory, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
import sketchbench_frequent_directions as fd
import torch
from torch import Generator, Tensor

from sketchbench.measure import LiveBytes
from sketchbench.protocols import Watched

SIZE, RANK = 30, 5
BETA2 = 0.9
CPU = torch.device("cpu")
ROOT = Path(__file__).parents[3]
REFERENCE = ROOT.parent / "shared" / "reference" / "sketchy_24x16_rank6.npz"


@pytest.mark.parametrize("buffer", [1, 2, 5, 7, 1000])
@pytest.mark.parametrize("tail_decay", ["paper", "tearfree"])
def test_bounds_hold_at_every_reading_whatever_the_buffer(buffer, tail_decay):
    estimate = _estimate(beta2=BETA2, buffer=buffer, tail_decay=tail_decay)
    exact = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    for step, count in enumerate((1, 1, 3, 1, 4, 20, 1, 1, 0, 1)):
        rows = _rows(count, seed=step)
        estimate.update(rows)
        exact = BETA2 * exact + rows.mT @ rows
        if step % 3 == 1:
            _within(estimate, exact)


def test_rows_in_the_buffer_decay_once_an_update():
    # everything fits in the sketch, so that it is exact: Σ β₂^(age) aaᵀ
    estimate = _estimate(beta2=BETA2, buffer=5, rank=10)
    updates = [_rows(count, seed=count) for count in (1, 2, 3, 2)]
    for rows in updates:
        estimate.update(rows)
    ages = [BETA2**age * rows.mT @ rows for age, rows in zip((3, 2, 1, 0), updates, strict=True)]
    torch.testing.assert_close(estimate.dense(), sum(ages), rtol=1e-10, atol=1e-12)


def test_the_tail_decays_with_every_update_that_only_filled_the_buffer():
    for name, decay in (("paper", BETA2), ("tearfree", BETA2**0.5)):
        estimate = _estimate(beta2=BETA2, buffer=10, tail_decay=name)
        estimate.update(_rows(40))
        before = estimate.tail
        for _ in range(3):
            estimate.update(torch.zeros(1, SIZE, dtype=torch.float64))
        torch.testing.assert_close(estimate.tail, before * decay**3, rtol=1e-10, atol=0)


def test_a_larger_buffer_lets_less_escape():
    stream = _rows(200)
    tails = []
    for buffer in (1, 5, 40):
        estimate = _estimate(buffer=buffer)
        for row in stream:
            estimate.update(row[None])
        tails.append(float(estimate.tail))
    assert tails == sorted(tails, reverse=True)


@pytest.mark.parametrize("solver", ["svd", "gram", "gram32", "subspace"])
def test_merging_two_streams_keeps_both_bounds(solver):
    first, second = (_estimate(solver=solver, buffer=7) for _ in range(2))
    rows = _rows(100)
    for row in rows[:53]:
        first.update(row[None])
    for row in rows[53:]:
        second.update(row[None])
    kept, tails = second.dense(), first.tail + second.tail
    first.merge(second)
    _within(first, rows.mT @ rows)
    assert first.tail >= tails
    assert torch.equal(second.dense(), kept)
    values = torch.linalg.eigvalsh(rows.mT @ rows).flip(0)
    assert first.tail <= values[RANK:].sum()  # ℓ − k' = 1 at k' = k


def test_merging_refuses_another_size():
    other = fd.FrequentDirections(rank=RANK).build(SIZE + 1, CPU)
    with pytest.raises(ValueError, match="frequent-directions: sketches of sizes 30 and 31"):
        _estimate().merge(other)


@pytest.mark.parametrize("fields", [{"beta2": 0.5}, {"beta2": BETA2, "tail_decay": "tearfree"}])
def test_merging_refuses_another_decay(fields):
    estimate = _estimate(beta2=BETA2)
    estimate.update(_rows(9))
    with pytest.raises(ValueError, match="frequent-directions: sketches of .* can't be merged"):
        estimate.merge(_estimate(**fields))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("solver", ["svd", "gram", "gram32", "lobpcg", "subspace"])
def test_rows_that_are_not_finite_are_refused_before_anything_is_touched(value, solver):
    estimate, twin = (_estimate(solver=solver, beta2=BETA2, buffer=4) for _ in range(2))
    broken = _rows(9, seed=5)
    broken[3, 2] = value
    for one in (estimate, twin):
        one.update(_rows(9))
        one.update(_rows(2, seed=1))
    with pytest.raises(ValueError, match="1 of 9 rows aren't finite; none is absorbed"):
        estimate.update(broken)
    assert torch.equal(estimate.dense(), twin.dense())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("solver", ["svd", "gram", "gram32", "subspace"])
def test_rows_whose_squares_overflow_are_refused_before_anything_is_touched(dtype, solver):
    large = torch.finfo(dtype).max ** 0.5 * 2
    for buffer in (1, 4, 50):
        estimate, twin = (_estimate(solver=solver, buffer=buffer) for _ in range(2))
        for one in (estimate, twin):
            one.update(_rows(3).to(dtype))
        with pytest.raises(ValueError, match=f"add up to .*, beyond {str(dtype)[6:]}; none is abs"):
            estimate.update(torch.full((1, SIZE), large / SIZE**0.5, dtype=dtype))
        assert torch.equal(estimate.dense(), twin.dense())


@pytest.mark.parametrize("buffer", [1, 5])
@pytest.mark.parametrize("tail_decay", ["paper", "tearfree"])
def test_a_sum_that_would_overflow_is_refused_while_it_is_finite(buffer, tail_decay):
    estimate = _estimate(buffer=buffer, tail_decay=tail_decay, solver="subspace")
    rows, taken = _rows(40).float() * 1e17, 0
    with pytest.raises(ValueError, match="beyond float32"):
        for _ in range(100):
            estimate.update(rows)
            taken += 1
    assert taken > 3
    assert estimate.dense().isfinite().all()
    assert taken * float(rows.square().sum()) > torch.finfo(torch.float32).max / 16


def test_sums_of_a_stream_that_decays_go_on():
    estimate = _estimate(beta2=0.5)
    for _ in range(20):
        estimate.update(_rows(40).float() * 1e17)
    assert estimate.dense().isfinite().all()


@pytest.mark.parametrize(("buffer", "rows"), [(1, 1), (4, 2), (4, 9)])
def test_a_decomposition_that_fails_leaves_the_estimate_as_it_was(monkeypatch, buffer, rows):
    estimate, twin = (_estimate(beta2=BETA2, buffer=buffer) for _ in range(2))
    for one in (estimate, twin):
        one.update(_rows(9))
        one.update(_rows(2, seed=1))

    def fails(stack, rank, warm):
        raise torch.linalg.LinAlgError("didn't converge")

    sound = estimate._solver
    monkeypatch.setattr(estimate, "_solver", fails)
    with pytest.raises(torch.linalg.LinAlgError):
        estimate.update(_rows(rows, seed=2))
    monkeypatch.setattr(estimate, "_solver", sound)
    for one in (estimate, twin):
        one.update(_rows(1, seed=3))
    assert torch.equal(estimate.dense(), twin.dense())


@pytest.mark.parametrize(
    "rows",
    [torch.zeros(SIZE), torch.zeros(3, SIZE + 1), torch.zeros(1, 3, SIZE)],
    ids=["one dimension", "too wide", "three dimensions"],
)
def test_rows_of_another_shape_are_refused_in_one_line(rows):
    with pytest.raises(
        ValueError, match=r"^frequent-directions: expected real rows \(m, 30\); got"
    ):
        _estimate().update(rows)


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64])
def test_rows_that_are_not_real_are_refused(dtype):
    with pytest.raises(ValueError, match=f"got {dtype}"):
        _estimate().update(torch.zeros(2, SIZE, dtype=dtype))


def test_float64_rows_make_a_float64_sketch():
    estimate = _estimate()
    assert estimate.sketch.vectors.dtype == torch.float32
    estimate.update(_rows(2).float())
    estimate.update(_rows(2, seed=1))
    rows = torch.cat([_rows(2).float().double(), _rows(2, seed=1)])
    assert {part.dtype for part in estimate.sketch} == {torch.float64}
    torch.testing.assert_close(estimate.dense(), rows.mT @ rows, rtol=1e-12, atol=1e-13)


def test_half_precision_rows_are_absorbed_in_single():
    estimate, rows = _estimate(), _rows(3).bfloat16()
    estimate.update(rows)
    assert estimate.dense().dtype == torch.float32
    torch.testing.assert_close(estimate.dense(), rows.float().mT @ rows.float())


@pytest.mark.parametrize(("buffer", "waiting"), [(1, 0), (None, 64), (100, 100)])
def test_bytes_are_those_of_the_sketch_and_the_buffer(buffer, waiting):
    estimate = fd.FrequentDirections(buffer=buffer).build(1024, CPU)
    expected = 4 * (1024 * 64 + 64 + 1 + waiting * 1024)
    assert estimate.bytes == expected
    estimate.update(torch.randn(3, 1024, generator=Generator().manual_seed(0)))
    assert estimate.sketch.vectors.any()
    assert estimate.bytes == expected


def test_the_buffer_is_no_larger_than_the_matrix():
    assert fd.FrequentDirections(rank=1000).build(20, CPU).bytes == 4 * (2 * 20 * 20 + 20 + 1)


def test_what_a_sketch_keeps_is_counted_as_a_sketch():
    estimates = []
    watching = LiveBytes(CPU, Watched(model=torch.nn.Linear(1, 1), inputs=()))
    with watching:
        estimates.append(fd.FrequentDirections(rank=4).build(64, CPU))
        for seed in range(3):
            estimates[0].update(_rows(50, seed=seed, size=64).float())
    assert watching.footprint.highest["sketches"] == estimates[0].bytes


@pytest.mark.parametrize("exponent", [-1.0, -0.25])
def test_powers_are_those_of_what_was_read(exponent):
    estimate, x = _estimate(), _rows(3).mT
    estimate.update(_rows(40))
    expected = torch.linalg.eigh(estimate.dense() + 0.1 * torch.eye(SIZE))
    powers = expected.eigenvectors * expected.eigenvalues**exponent @ expected.eigenvectors.mT
    torch.testing.assert_close(estimate.power(x, exponent, 0.1), powers @ x)


@pytest.mark.skipif(not REFERENCE.exists(), reason=f"no {REFERENCE.name} beside the repository")
@pytest.mark.parametrize("solver", ["svd", "gram", "gram32"])
def test_the_sketch_is_that_of_the_authors_code(solver):
    data = {name: torch.from_numpy(array) for name, array in np.load(REFERENCE).items()}
    recipe = fd.FrequentDirections(
        rank=6, beta2=0.99, tail_decay="tearfree", solver=solver, buffer=1
    )
    left, right = recipe.build(24, CPU), recipe.build(16, CPU)
    for gradient in data["gradients"]:
        left.update(gradient.mT)
        right.update(gradient)
    close = {"rtol": 1e-5, "atol": 0.0, "check_dtype": False}
    torch.testing.assert_close(left.sketch.roots, data["left_singular_values"], **close)
    torch.testing.assert_close(left.tail, data["left_tail"], **close)
    torch.testing.assert_close(right.tail, data["right_tail"], **close)


def _within(estimate, exact: Tensor) -> None:
    allowed = 1e-12 * torch.linalg.matrix_norm(exact, 2)
    above = torch.linalg.eigvalsh(estimate.dense() - exact)
    assert above[0] >= -allowed
    assert above[-1] <= estimate.tail + allowed


def _estimate(**fields):
    recipe = fd.FrequentDirections(**({"rank": RANK} | fields))
    return recipe.build(SIZE, CPU)


def _rows(count: int, seed: int = 0, size: int = SIZE) -> Tensor:
    rng = Generator().manual_seed(seed)
    normal = torch.randn(count, size, generator=rng, dtype=torch.float64)
    return normal * torch.arange(1, size + 1) ** -0.5
