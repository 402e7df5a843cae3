"""Certified norms against exact ones, and the subspace solver's bounds on six spectra."""

import pytest
import torch
from sketchbench_frequent_directions.sketch import absorb, empty
from sketchbench_frequent_directions.solvers import certificate
from sketchbench_frequent_directions.solvers.certificate import certified_norm, lanczos
from sketchbench_frequent_directions.solvers.decompositions import gram_matrix, positive_definite
from sketchbench_frequent_directions.solvers.table import SOLVERS
from torch import Generator, Tensor

SIZE, RANK = 160, 12
INDEX = torch.arange(1, SIZE + 1, dtype=torch.float64)
SPECTRA = {
    "flat": torch.ones(SIZE, dtype=torch.float64),
    "i^-½": INDEX**-0.5,
    "1/i": 1 / INDEX,
    "1/i²": INDEX**-2,
    "exponential": torch.exp(-INDEX / 5),
    "low rank and noise": torch.where(INDEX <= RANK // 2, 1.0, 1e-2),
}
spectra = pytest.mark.parametrize("spectrum", SPECTRA)


@spectra
@pytest.mark.parametrize("columns", [40, 300])
def test_a_certified_norm_is_above_the_norm_by_little(spectrum, columns):
    matrix = _increment(spectrum, columns, seed=0)
    norm = torch.linalg.matrix_norm(matrix, 2) ** 2
    assert norm <= certified_norm(matrix) <= 1.11 * norm  # two trials of 5 %, at most


def test_certified_norms_of_a_batch_are_each_its_own():
    matrices = torch.stack([_increment(name, 200, seed=0) for name in SPECTRA]).unflatten(0, (2, 3))
    matrices[1, 0] = 0
    bounds = certified_norm(matrices)
    norms = torch.linalg.matrix_norm(matrices, 2) ** 2
    assert bounds[1, 0] == 0
    assert (bounds >= norms).all()
    assert (bounds <= 1.11 * norms).all()


def test_a_norm_that_no_trial_certifies_is_bounded_by_the_trace(monkeypatch):
    matrix = _increment("1/i", 40, seed=0)
    monkeypatch.setattr(certificate, "lanczos", lambda square: square.new_zeros(()))
    torch.testing.assert_close(certified_norm(matrix), (matrix**2).sum())


def test_gradients_of_logits_whose_columns_sum_to_zero_are_certified_as_tightly():
    # 1 is in the null space of C: no start for Lanczos
    matrix = _increment("flat", 300, seed=0)
    matrix = matrix - matrix.mean(0)
    norm = torch.linalg.matrix_norm(matrix, 2) ** 2
    assert norm <= certified_norm(matrix) <= 1.11 * norm


@spectra
def test_lanczos_is_below_the_norm_and_near_it(spectrum):
    square = gram_matrix(_increment(spectrum, 300, seed=0))
    norm = torch.linalg.matrix_norm(square, 2)
    assert 0.9 * norm <= lanczos(square) <= norm * (1 + 1e-12)


@pytest.mark.parametrize("size", [1, 128, 129, 300])
def test_a_matrix_is_definite_just_above_its_least_eigenvalue(size):
    rng = Generator().manual_seed(0)
    matrix = gram_matrix(torch.randn(size, size, generator=rng, dtype=torch.float64))
    least = torch.linalg.eigvalsh(matrix)[0]
    identity, step = torch.eye(size, dtype=torch.float64), 1e-10 * matrix.trace()
    shifted = torch.stack([matrix - (least - step) * identity, matrix - (least + step) * identity])
    assert positive_definite(shifted).tolist() == [True, False]


@pytest.mark.parametrize("shape", [(1, 5), (128, 9), (129, 9), (2, 300, 40)])
def test_a_gram_matrix_by_panels_is_the_product(shape):
    matrix = torch.randn(shape, generator=Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(gram_matrix(matrix), matrix @ matrix.mT)


@spectra
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("columns", [60, SIZE])
def test_subspace_keeps_both_bounds_and_a_tight_tail(spectrum, dtype, columns):
    tolerance = {torch.float32: 5e-5, torch.float64: 1e-12}[dtype]
    sketches = {name: empty(SIZE, RANK, dtype=dtype) for name in ("svd", "subspace")}
    exact = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    for seed in range(6):
        increment = _increment(spectrum, columns, seed=seed).to(dtype)
        exact = 0.99 * exact + increment.double() @ increment.double().mT
        for name, sketch in sketches.items():
            sketches[name] = absorb(
                sketch, increment, beta2=0.99, tail_decay=0.99, solver=SOLVERS[name]
            )
        subspace = sketches["subspace"]
        held = (
            subspace.vectors.double() * subspace.roots.double() ** 2
        ) @ subspace.vectors.mT.double()
        differences = torch.linalg.eigvalsh(exact - held)
        allowed = tolerance * torch.linalg.matrix_norm(exact, 2)
        assert differences[0] >= -allowed
        assert differences[-1] <= subspace.tail + allowed
    # what it costs: an exact solver's tail, the certificate's 5 % and what two passes miss
    assert subspace.tail <= 1.5 * sketches["svd"].tail + allowed


def _increment(spectrum: str, columns: int, seed: int) -> Tensor:
    rng = Generator().manual_seed(seed + 1)
    normal = torch.randn(SIZE, columns, generator=rng, dtype=torch.float64) / columns**0.5
    rotation = torch.randn(SIZE, SIZE, generator=Generator().manual_seed(0), dtype=torch.float64)
    return torch.linalg.qr(rotation)[0] * SPECTRA[spectrum] @ normal
