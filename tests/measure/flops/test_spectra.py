import pytest
import torch

from sketchbench.measure import flop_factorizations as factorizations


@pytest.mark.parametrize(("m", "n"), [(6, 6), (10, 8), (14, 10)])
def test_singular_values_alone_are_a_bidiagonalization(rand, naive, m, n):
    a = rand(m, n)
    rows, took = naive.done(naive.bidiagonalize, naive.numbers(a))
    assert torch.allclose(torch.linalg.svdvals(naive.values(rows)), torch.linalg.svdvals(a))
    assert abs(sum(took) - factorizations.svd(m, n, vectors=False)) <= 6 * m * n


@pytest.mark.parametrize("n", [6, 10, 14])
def test_symmetric_eigenvalues_alone_are_a_tridiagonalization(rand, naive, n):
    a = rand(n, n)
    a = a + a.T
    rows, took = naive.done(naive.tridiagonalize, naive.numbers(a))
    lower = naive.values(rows).tril()
    again = lower + lower.tril(-1).T
    assert torch.allclose(torch.linalg.eigvalsh(again), torch.linalg.eigvalsh(a))
    assert abs(sum(took) - factorizations.eigh(n, vectors=False)) <= 6 * n * n


def test_a_very_tall_matrix_is_first_reduced_to_its_triangle():
    m, n = 1000, 10
    triangle = factorizations.reflected(m, n)
    two_steps = triangle.multiplications + triangle.additions + factorizations.svd(n, n, False)
    assert abs(factorizations.svd(m, n, vectors=False) - two_steps) <= 2 * m * n


@pytest.mark.parametrize(
    ("m", "n", "full", "flops"),
    [
        (10, 10, False, 22_000),
        (12, 10, False, 24_800),  # 14mn² + 8n³
        (100, 10, False, 80_000),  # 6mn² + 20n³
        (10, 100, False, 80_000),
        (10, 10, True, 21_000),  # 4m²n + 8mn² + 9n³
        (100, 10, True, 422_000),  # 4m²n + 22n³
    ],
)
def test_singular_vectors_count_as_in_the_table(count, rand, m, n, full, flops):
    a = rand(m, n)
    assert count(lambda: torch.linalg.svd(a, full_matrices=full)).by_op == {"linalg_svd": flops}
    assert count(lambda: torch.linalg.svd(a.cfloat(), full_matrices=full)).total == 4 * flops


def test_eigenvectors_count_as_in_the_tables(count, rand):
    a = rand(30, 30)
    assert count(lambda: torch.linalg.eigh(a + a.T)).by_op == {"linalg_eigh": 9 * 27_000}
    assert count(lambda: torch.linalg.eig(a)).by_op == {"linalg_eig": 79 * 9_000}


def test_values_alone_are_counted_alone_where_torch_computes_them_alone(count, rand):
    with torch.inference_mode():
        a = rand(30, 20)
        assert count(lambda: torch.linalg.svdvals(a)).by_op == {
            "linalg_svdvals": factorizations.svd(30, 20, vectors=False)
        }
        assert count(lambda: torch.linalg.eigvals(a[:20])).by_op == {"linalg_eigvals": 80_000}
        assert count(lambda: torch.linalg.eigvalsh(a[:20])).by_op == {
            "linalg_eigvalsh": factorizations.eigh(20, vectors=False)
        }


def test_a_pseudoinverse_is_its_svd_and_a_product(count, rand):
    a = rand(12, 10)
    assert count(lambda: torch.linalg.pinv(a)).total == 24_800 + 2 * 12 * 10 * 10
    assert count(lambda: torch.linalg.pinv(a @ a.T, hermitian=True)).by_op == {
        "linalg_pinv": 11 * 12**3,
        "mm": 2 * 12 * 12 * 10,
    }
