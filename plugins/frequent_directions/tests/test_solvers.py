"""Solvers against the eigenvectors of MMᵀ in float64, and what each does where it can't go on."""

import copy
import pickle
from importlib import import_module
from typing import get_args

import pytest
import torch
from sketchbench_frequent_directions.solvers import decompositions, gram32, table
from sketchbench_frequent_directions.solvers.projection import project, started
from sketchbench_frequent_directions.solvers.table import CERTIFIED, EXACT, SOLVERS, SolverName
from torch import Generator, Tensor

subspace = import_module("sketchbench_frequent_directions.solvers.subspace")
ALL = sorted(get_args(SolverName))
DTYPES = {torch.float32: 5e-5, torch.float64: 1e-12}  # what the square of a root may be off, of σ₁²
SHAPES = {"wide": (60, 90), "square": (60, 60), "tall": (90, 60), "narrow": (60, 3)}
RANK = 6

of = lambda solvers: pytest.mark.parametrize("solver", sorted(solvers))
every_type = pytest.mark.parametrize("dtype", DTYPES)
every_shape = pytest.mark.parametrize("shape", SHAPES)


def test_the_table_holds_every_name():
    assert set(SOLVERS) == set(ALL)
    assert EXACT < CERTIFIED < set(ALL)  # lobpcg alone promises no upper bound


@of(EXACT)
@every_shape
@every_type
def test_exact_solvers_find_the_leading_pairs(solver, shape, dtype):
    stack = _stack(*SHAPES[shape]).to(dtype)
    found = SOLVERS[solver](stack, RANK, _cold(stack))
    allowed = DTYPES[dtype] * float(_values(stack)[0])
    for actual, expected in (
        (found.roots.double() ** 2, _values(stack)[:RANK]),
        (found.cutoff.double() ** 2, _values(stack)[RANK]),
        (found.escaped.double(), _values(stack)[RANK]),
    ):
        torch.testing.assert_close(actual, expected, rtol=0, atol=allowed)
    assert found.vectors.dtype == found.escaped.dtype == dtype
    residual = _square(stack) @ found.vectors.double()
    residual -= found.vectors.double() * found.roots.double() ** 2
    assert torch.linalg.matrix_norm(residual, 2) <= allowed


@of(ALL)
@every_shape
@every_type
def test_what_is_found_is_below_the_matrix(solver, shape, dtype):
    stack = _stack(*SHAPES[shape]).to(dtype)
    found = SOLVERS[solver](stack, RANK, _cold(stack))
    least = torch.linalg.eigvalsh(_square(stack) - _held(found))[0]
    assert least >= -DTYPES[dtype] * _values(stack)[0]


@of(ALL)
@every_type
def test_nearly_low_rank_stacks_give_orthonormal_vectors(solver, dtype):
    loss = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    for (rows, columns), small in zip(
        [(60, 90), (90, 60)] * 3, (1e-3, 1e-5, 1e-7) * 2, strict=True
    ):
        stack = _nearly_low_rank(rows, columns, small).to(dtype)
        found = SOLVERS[solver](stack, RANK, _cold(stack))
        active = found.vectors[:, found.roots > found.cutoff].double()
        identity = torch.eye(active.shape[1], dtype=torch.float64)
        assert active.shape[1] >= 3
        assert torch.linalg.matrix_norm(active.mT @ active - identity, 2) <= loss


@of(ALL)
@every_shape
def test_a_batch_is_each_stack_alone(solver, shape):
    stacks = torch.stack([_stack(*SHAPES[shape], seed=seed) for seed in range(4)])
    stacks = stacks.unflatten(0, (2, 2))
    stacks[1, 1] = 0
    batched = SOLVERS[solver](stacks, RANK, _cold(stacks))
    for row, column in ((0, 1), (1, 0), (1, 1)):
        alone = SOLVERS[solver](stacks[row, column], RANK, _cold(stacks[row, column]))
        held = _held(type(batched)(*(part[row, column] for part in batched)))
        torch.testing.assert_close(held, _held(alone))
        torch.testing.assert_close(batched.escaped[row, column], alone.escaped)


@of(ALL)
def test_one_stack_gives_one_answer_and_no_generator_moves(solver):
    stack, before = _stack(60, 90), torch.get_rng_state()
    kept = stack.clone()
    first, second = (SOLVERS[solver](stack, RANK, _cold(stack)) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(stack, kept)


@of(ALL)
@every_shape
def test_nothing_is_found_of_zeros(solver, shape):
    stack = torch.zeros(SHAPES[shape])
    found = SOLVERS[solver](stack, RANK, _cold(stack))
    assert not any(part.any() for part in (found.roots, found.cutoff, found.escaped))
    assert found.vectors.isfinite().all()


def test_float32_squares_that_lose_orthogonality_are_counted_and_done_in_float64():
    lowrank = _nearly_low_rank(90, 60, 1e-5).float()
    stacks = torch.stack([_stack(90, 60, flat=True).float(), lowrank])
    guarded = gram32.Gram32()
    found = guarded(stacks, RANK, _cold(stacks))
    assert guarded.fallbacks == 1
    expected = SOLVERS["gram"](lowrank, RANK, _cold(lowrank))
    assert torch.equal(found.vectors[1], expected.vectors)
    guarded(stacks[0], RANK, _cold(stacks[0]))
    assert guarded.fallbacks == 1


def test_float32_squares_that_hide_a_root_are_done_in_float64():
    # wide: vectors are orthonormal in any case, and only the smaller roots are lost
    hides = _nearly_low_rank(60, 90, 1e-5).float()
    guarded = gram32.Gram32()
    found, expected = (one(hides, RANK, _cold(hides)) for one in (guarded, SOLVERS["gram"]))
    assert guarded.fallbacks == 1
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    guarded(_stack(60, 90).float(), RANK, _cold(hides))
    assert guarded.fallbacks == 1


@pytest.mark.parametrize("shape", ["wide", "tall"])
def test_float64_squares_that_hide_a_root_are_left_to_svd(shape):
    hides = _nearly_low_rank(*SHAPES[shape], 1e-10)
    found, expected = (SOLVERS[name](hides, RANK, _cold(hides)) for name in ("gram", "svd"))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert expected.cutoff > 0


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_of_gram32_counts_where_it_does(copied):
    assert copied(gram32.gram32) is gram32.gram32


@of(ALL)
@every_type
@pytest.mark.parametrize("shape", ["wide", "tall", "narrow"])
def test_what_lies_beside_a_stack_in_its_batch_changes_no_bit_of_it(solver, shape, dtype):
    if solver == "lobpcg":
        pytest.skip("torch.lobpcg iterates on a batch until all of it has converged")
    stack, other = (_stack(*SHAPES[shape], seed=seed).to(dtype) for seed in range(2))
    lowrank = other[:, :2] @ other[:2]  # falls back, and needs its QR decomposition
    pairs = [torch.stack([stack, neighbour]) for neighbour in (other, lowrank)]
    one, two = (SOLVERS[solver](pair, RANK, _cold(pair)) for pair in pairs)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(("new", "size"), [(9, 3.0), (12, 10.0), (20, 3.0), (12, 1.0), (8, 10.0)])
def test_new_directions_larger_than_those_held_cost_no_more_than_thrice_the_tail(new, size):
    # p = 8 of them can be found; those that are missed are larger than all that is held
    axes = torch.linalg.qr(_stack(160, 160, flat=True))[0]
    right = torch.linalg.qr(_stack(160, 160, seed=1, flat=True))[0]
    noise = 1e-2 * _stack(160, 160, seed=2, flat=True)
    warm, fresh = axes[:, :12], size * axes[:, 12 : 12 + new] @ right[:new] + noise
    stack = torch.cat([warm, fresh], dim=1)
    found, exact = (SOLVERS[name](stack, 12, warm) for name in ("subspace", "svd"))
    assert (1 - 1e-12) * exact.escaped <= found.escaped <= 3 * exact.escaped
    above = torch.linalg.eigvalsh(_square(stack) - _held(_deflated(found)))[-1]
    assert above <= (1 + 1e-12) * found.escaped


def test_ordinary_streams_are_not_left_to_gram(monkeypatch):
    def refuses(stack, rank, warm):
        raise AssertionError("expected no fall to gram")

    stack = _stack(160, 200)
    warm = SOLVERS["svd"](_stack(160, 200, seed=1), 12, stack.new_zeros(160, 12)).vectors
    monkeypatch.setattr(subspace, "gram", refuses)
    SOLVERS["subspace"](stack, 12, warm)
    SOLVERS["subspace"](_stack(160, 200, flat=True), 12, warm)


@pytest.mark.parametrize(("solver", "size"), [("lobpcg", 20), ("subspace", 27)])
def test_stacks_too_small_to_iterate_on_are_left_to_gram(solver, size):
    stack = _stack(size, 90)  # lobpcg wants 3(k + 1) = 21 rows, subspace 2(k + 8) = 28
    found, expected = (SOLVERS[name](stack, RANK, _cold(stack)) for name in (solver, "gram"))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    larger = _stack(size + 1, 90)
    found, expected = (SOLVERS[name](larger, RANK, _cold(larger)) for name in (solver, "gram"))
    assert not torch.equal(found.vectors, expected.vectors)


def test_lobpcg_cuts_at_the_exact_eigenvalue():
    for stack in (_stack(60, 90), _stack(90, 60)):
        found = table.SOLVERS["lobpcg"](stack, RANK, _cold(stack))
        torch.testing.assert_close(found.escaped, _values(stack)[RANK], rtol=1e-10, atol=0)
        torch.testing.assert_close(found.roots**2, _values(stack)[:RANK], rtol=1e-2, atol=0)


def test_a_decomposition_that_fails_is_tried_in_float64():
    def stalls_in_float32(matrix: Tensor) -> tuple[Tensor, ...]:
        if matrix.dtype == torch.float32:
            raise torch.linalg.LinAlgError("didn't converge")
        return tuple(torch.linalg.eigh(matrix))

    matrix = _square(_stack(8, 9)).float()
    values, vectors = decompositions.retried(stalls_in_float32, matrix)
    assert values.dtype == vectors.dtype == torch.float32
    torch.testing.assert_close(vectors * values @ vectors.mT, matrix)


def test_a_decomposition_that_fails_in_float64_says_so():
    with pytest.raises(torch.linalg.LinAlgError):
        decompositions.eigh(torch.full((4, 4), torch.nan))


def test_a_projection_from_the_right_never_exceeds_the_matrix():
    stack = _stack(60, 70)
    right = torch.linalg.qr(_stack(70, 9, flat=True))[0]  # any space at all
    vectors, roots, turned = project(stack, right)
    torch.testing.assert_close(stack @ turned, vectors * roots)
    held = (vectors * roots**2) @ vectors.mT
    assert torch.linalg.eigvalsh(_square(stack) - held)[0] >= -1e-13 * _values(stack)[0]


def test_missing_columns_of_a_start_are_filled():
    warm = torch.eye(10)[:, :4].clone()
    warm[:, 2] = 0
    start = started(warm, 3)
    assert start.shape == (10, 7)
    assert torch.equal(start[:, [0, 1, 3]], warm[:, [0, 1, 3]])
    assert torch.linalg.matrix_rank(start) == 7


def _stack(rows: int, columns: int, *, seed: int = 0, flat: bool = False) -> Tensor:
    rng = Generator().manual_seed(seed)
    normal = torch.randn(rows, columns, generator=rng, dtype=torch.float64) / columns**0.5
    return normal if flat else normal / torch.arange(1, rows + 1).unsqueeze(-1) ** 0.5


def _nearly_low_rank(rows: int, columns: int, small: float) -> Tensor:
    three = _stack(rows, 3, flat=True) @ _stack(3, columns, seed=1, flat=True)
    return three + small * _stack(rows, columns, seed=2, flat=True)


def _cold(stack: Tensor) -> Tensor:
    return stack.new_zeros(*stack.shape[:-1], RANK)


def _square(stack: Tensor) -> Tensor:
    return stack.double() @ stack.double().mT


def _values(stack: Tensor) -> Tensor:
    values = torch.linalg.svdvals(stack.double()) ** 2
    return torch.cat([values, values.new_zeros(RANK + 1)])


def _deflated(found):
    cutoff = found.cutoff.unsqueeze(-1)
    return found._replace(roots=(found.roots.square() - cutoff.square()).clamp_min(0).sqrt())


def _held(found) -> Tensor:
    scaled = (found.vectors * found.roots.unsqueeze(-2)).double()
    return scaled @ scaled.mT
