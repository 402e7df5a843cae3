"""Lanczos, density and trace on matrices whose spectrum was planted."""

import math

import pytest
import torch

from sketchbench.curvature import density, lanczos, random_vector, trace

SIZE = 120


def planted(values, seed=0):
    """A symmetric matrix with these eigenvalues, and its eigenvectors' columns."""
    values = torch.as_tensor(values, dtype=torch.float64)
    rng = torch.Generator().manual_seed(seed)
    vectors = torch.linalg.qr(torch.randn(2 * values.shape, generator=rng).double()).Q
    return vectors @ values.diag() @ vectors.T, vectors


def drawn(seed, dtype=torch.float64):
    rng = torch.Generator().manual_seed(seed)
    return random_vector(SIZE, rng, dtype, torch.device("cpu")), rng


BULK = torch.linspace(-0.1, 0.1, SIZE - 6, dtype=torch.float64)
SPIKES = torch.cat([torch.tensor([-2.0], dtype=torch.float64), BULK, torch.linspace(1, 5, 5)])


def test_outlying_eigenvalues_and_their_vectors_are_found():
    """Convergence is fast where gaps are large: 40 steps leave nothing but rounding."""
    matrix, vectors = planted(SPIKES)
    found = lanczos(matrix.mv, *_with_steps(1, 40))
    torch.testing.assert_close(found.values[-5:], SPIKES[-5:], rtol=0, atol=1e-10)
    torch.testing.assert_close(found.values[0], SPIKES[0], rtol=0, atol=1e-10)
    ritz = found.vectors(torch.arange(40)[-5:])
    torch.testing.assert_close((ritz @ vectors[:, -5:]).abs(), torch.eye(5).double())
    assert found.residuals[-5:].max() <= 1e-7


def test_all_steps_give_every_eigenvalue():
    matrix, _ = planted(SPIKES)
    found = lanczos(matrix.mv, *_with_steps(1, 10_000))
    truth = torch.linalg.eigvalsh(matrix)
    torch.testing.assert_close(found.values, truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-12 * 2**29)]
)
def test_the_basis_stays_orthonormal_where_plain_lanczos_loses_it(dtype, bound):
    """A condition of 10^8; float32 has 29 bits less. T is QAQᵀ."""
    values = torch.logspace(0, -8, SIZE, dtype=torch.float64)
    matrix = planted(values)[0].to(dtype)
    start, rng = drawn(2, dtype)
    found = lanczos(matrix.mv, start, 100, rng)
    basis = found.basis
    assert (basis @ basis.T - torch.eye(100, dtype=dtype)).norm() <= bound
    assert found.basis_bytes == 100 * SIZE * dtype.itemsize
    if dtype == torch.float64:
        projected = basis @ matrix @ basis.T
        torch.testing.assert_close(projected, found.tridiagonal, rtol=0, atol=1e-12)


def test_repeated_eigenvalues_are_found_beyond_an_exhausted_space():
    """Of 3 different values a Krylov space has 3 dimensions; new directions hold the rest."""
    values = torch.tensor([1.0, 2.0, 4.0]).repeat_interleave(SIZE // 3).double()
    found = lanczos(lambda vector: values * vector, *_with_steps(3, SIZE))
    torch.testing.assert_close(found.values, values, rtol=0, atol=1e-11)
    gram = found.basis @ found.basis.T
    assert (gram - torch.eye(SIZE, dtype=torch.float64)).norm() <= 1e-12
    assert found.beside[2] == 0
    assert (found.beside[:2] > 0.1).all()


def test_a_zero_matrix_has_only_zeros():
    found = lanczos(torch.zeros_like, *_with_steps(4, 5))
    assert torch.equal(found.values, torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(found.basis @ found.basis.T, torch.eye(5, dtype=torch.float64))


def test_bad_starts_and_products_are_refused():
    start, rng = drawn(5)
    with pytest.raises(ValueError, match="5 steps from a vector of norm 0"):
        lanczos(torch.zeros_like, torch.zeros(SIZE), 5, rng)
    with pytest.raises(ValueError, match="0 steps"):
        lanczos(torch.zeros_like, start, 0, rng)
    with pytest.raises(ValueError, match="product of step 1 is not finite"):
        lanczos(lambda v: v * math.nan, start, 5, rng)


def test_density_is_a_distribution_with_the_matrixs_moments():
    """First and second moment within 5 standard errors of those of the eigenvalues."""
    matrix, _ = planted(SPIKES)
    _, rng = drawn(6)
    found = density(matrix.mv, torch.zeros(SIZE, dtype=torch.float64), 30, 20, rng)
    torch.testing.assert_close(found.weights.sum(1), torch.ones(20, dtype=torch.float64))
    points = torch.linspace(-6, 9, 3001, dtype=torch.float64)
    area = torch.trapezoid(found.smooth(points, width=0.2), points)
    assert abs(area.item() - 1) <= 1e-6  # nodes are 17 standard deviations from the ends
    estimate = found.trace()
    assert estimate.error > 0
    assert abs(estimate.value - SPIKES.sum().item()) <= 5 * estimate.error
    squares = (found.weights * found.nodes**2).sum(1)
    error = squares.std() / 20**0.5
    assert abs(squares.mean() - (SPIKES**2).mean()) <= 5 * error
    shares = (found.weights * (found.nodes < -1)).sum(1)
    assert found.between(-3, -1) == pytest.approx(shares.mean().item())
    assert abs(shares.mean() - 1 / SIZE) <= 5 * shares.std() / 20**0.5


def test_trace_lies_within_its_standard_error():
    matrix, _ = planted(SPIKES)
    _, rng = drawn(7)
    like = torch.zeros(SIZE, dtype=torch.float64)
    draws = [trace(matrix.mv, like, 60, rng) for _ in range(40)]
    scores = [(found.value - SPIKES.sum().item()) / found.error for found in draws]
    # twenty probes: Student's t of 19 degrees, whose variance is 19/17
    assert abs(sum(scores) / 40) <= 5 * (19 / 17 / 40) ** 0.5
    assert max(map(abs, scores)) <= 6


def test_trace_of_a_matrix_of_low_rank_is_exact():
    """Its leading range is all of it: what is left to random signs is rounding."""
    matrix, _ = planted([*[0.0] * (SIZE - 4), 1.0, 2.0, 3.0, 4.0])
    _, rng = drawn(8)
    like = torch.zeros(SIZE, dtype=torch.float64)
    found = trace(matrix.mv, like, 18, rng)
    assert abs(found.value - 10) <= 1e-10
    assert trace(matrix.mv, like, 3 * SIZE, rng).error == 0
    with pytest.raises(ValueError, match="5 products are too few"):
        trace(matrix.mv, like, 5, rng)


def _with_steps(seed, steps):
    start, rng = drawn(seed)
    return start, steps, rng
