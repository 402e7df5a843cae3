import functools

import pytest
import torch

from sketchbench.measure import flop_factorizations as factorizations

# torch says so of operations that it still has, and whose count matters therefore
pytestmark = pytest.mark.filterwarnings("ignore:.*(deprecated|beta)")


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_cholesky_counts_exactly_what_the_naive_one_does(count, rand, naive, n):
    a = rand(n, n)
    a = a @ a.T + n * torch.eye(n, dtype=a.dtype)
    factor, took = naive.done(naive.cholesky, naive.numbers(a))
    assert torch.allclose(naive.values(factor).tril(), torch.linalg.cholesky(a))
    assert took == (n * (n + 1) * (n + 2) // 6, n * (n * n - 1) // 6)
    assert count(lambda: torch.linalg.cholesky(a)).total == sum(took)
    assert count(lambda: torch.cholesky(a)).total == sum(took)
    complex_a = a.to(torch.complex128)
    assert count(lambda: torch.linalg.cholesky(complex_a)).total == 6 * took[0] + 2 * took[1]


@pytest.mark.parametrize(("m", "n"), [(1, 1), (6, 6), (7, 4), (4, 7)])
def test_lu_counts_exactly_what_the_naive_one_does(count, rand, naive, m, n):
    a = rand(m, n)
    _, took = naive.done(naive.lu, naive.numbers(a))
    work = factorizations.lu(m, n)
    assert (work.multiplications, work.additions) == took
    for factor in (torch.linalg.lu_factor, torch.linalg.lu, torch.linalg.lu_factor_ex):
        assert count(lambda factor=factor: factor(a)).total == sum(took)
    if m == n:
        assert count(lambda: torch.linalg.det(a)).total == sum(took)
        assert count(lambda: torch.linalg.slogdet(a)).total == sum(took)


@pytest.mark.parametrize("unit", [False, True])
@pytest.mark.parametrize(("n", "columns"), [(1, 1), (5, 1), (6, 4)])
def test_substitution_counts_exactly_what_the_naive_one_does(count, rand, naive, n, columns, unit):
    a = rand(n, n).tril() + n * torch.eye(n, dtype=torch.float64)
    if unit:
        a.fill_diagonal_(1)
    b = rand(n, columns)
    solved, took = naive.done(naive.substitute, naive.numbers(a), naive.numbers(b), unit)
    solve = functools.partial(torch.linalg.solve_triangular, a, b, upper=False, unitriangular=unit)
    assert torch.allclose(naive.values(solved), solve())
    assert count(solve).total == sum(took)
    old = functools.partial(torch.triangular_solve, b, a, upper=False, unitriangular=unit)
    assert count(old).total == sum(took)
    from_right = functools.partial(
        torch.linalg.solve_triangular, a, b.T, upper=False, left=False, unitriangular=unit
    )
    assert count(from_right).total == sum(took)


@pytest.mark.parametrize(("n", "columns"), [(1, 1), (5, 3)])
def test_solves_are_their_factors_and_substitutions(count, rand, naive, n, columns):
    a, b = rand(n, n), rand(n, columns)
    spd = a @ a.T + torch.eye(n, dtype=a.dtype)
    _, factor = naive.done(naive.lu, naive.numbers(a))
    _, below = naive.done(naive.substitute, naive.numbers(a), naive.numbers(b), True)
    _, above = naive.done(naive.substitute, naive.numbers(a), naive.numbers(b))
    _, spent = naive.done(naive.substitute, naive.numbers(a), naive.identity(n, n), True)
    _, again = naive.done(naive.substitute, naive.numbers(a), naive.identity(n, n))
    assert count(lambda: torch.linalg.solve(a, b)).total == sum(factor + below + above)
    assert count(lambda: torch.linalg.solve(a, b.T, left=False)).total == sum(
        factor + below + above
    )
    assert count(lambda: torch.linalg.inv(a)).total == sum(factor + spent + again)
    parts = torch.linalg.lu_factor(a)
    assert count(lambda: torch.linalg.lu_solve(*parts, b)).total == sum(below + above)
    lower = torch.linalg.cholesky(spd)
    assert count(lambda: torch.cholesky_solve(b, lower)).total == 2 * sum(above)
    assert count(lambda: torch.linalg.solve(a, b[:, 0])).total == sum(factor) + (
        sum(below + above) // columns
    )


@pytest.mark.parametrize("n", [1, 2, 7])
def test_an_inverse_from_a_factor_counts_exactly_what_the_naive_one_does(count, rand, naive, n):
    lower = rand(n, n).tril() + n * torch.eye(n, dtype=torch.float64)
    half, took = naive.done(naive.inverse_from, naive.numbers(lower))
    inverse = torch.cholesky_inverse(lower)
    assert [[x.value for x in row] for row in half] == [
        pytest.approx(row[: i + 1]) for i, row in enumerate(inverse.tolist())
    ]
    assert count(lambda: torch.cholesky_inverse(lower)).total == sum(took)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (7, 1), (5, 5), (9, 4), (4, 9), (12, 11)])
def test_householder_qr_counts_as_the_naive_one_but_for_a_few_per_column(count, rand, naive, m, n):
    a = rand(m, n)
    rows, k = naive.numbers(a), min(m, n)
    reflectors, took = naive.done(naive.householder, rows)
    complete = torch.linalg.qr(a, mode="complete").R
    assert torch.allclose(naive.values(rows).abs(), complete.abs(), atol=1e-12)
    work = factorizations.reflected(m, n)
    # Working Note 41 takes 23/6 multiplications and 5/6 additions per column besides the vectors'
    assert abs(work.multiplications - took[0]) <= 5 * k
    assert abs(work.additions - took[1]) <= 3 * k
    assert count(lambda: torch.linalg.qr(a, mode="r")).total == work.flops(a)
    assert count(lambda: torch.geqrf(a)).by_op == {"geqrf": work.flops(a)}
    for columns, mode in ((k, "reduced"), (m, "complete")):
        q, formed = naive.done(naive.first_columns, reflectors, m, columns)
        expected = torch.linalg.qr(a, mode=mode).Q
        assert torch.allclose(naive.values(q).abs(), expected.abs(), atol=1e-12)
        forming = factorizations.accumulated(m, columns, k)
        assert abs(forming.multiplications - formed[0]) <= 2 * k
        assert abs(forming.additions - formed[1]) <= 2 * k
        both = (work + forming).flops(a)
        assert count(lambda mode=mode: torch.linalg.qr(a, mode=mode)).total == both


@pytest.mark.parametrize(("m", "n", "columns"), [(6, 6, 2), (9, 4, 3), (7, 1, 1)])
def test_applying_reflectors_counts_exactly_what_the_naive_one_does(
    count, rand, naive, m, n, columns
):
    a, c = rand(m, n), rand(m, columns)
    reflectors = naive.householder(naive.numbers(a))
    _, took = naive.done(naive.apply_q, reflectors, naive.numbers(c))
    factors = torch.geqrf(a)
    assert count(lambda: torch.ormqr(*factors, c)).total == sum(took)
    product = count(lambda: torch.linalg.householder_product(*factors))
    assert product.total == factorizations.accumulated(m, n, n).flops(a)
    right = count(lambda: torch.ormqr(*factors, c.T, left=False)).total
    assert abs(right - sum(took)) <= 2 * n * (m + columns)  # τ scales the longer vectors


@pytest.mark.parametrize(("m", "n", "columns"), [(9, 4, 3), (4, 9, 3), (5, 5, 1)])
def test_least_squares_are_a_qr_its_application_and_a_substitution(count, rand, m, n, columns):
    a, b = rand(m, n), rand(m, columns)
    tall, thin = max(m, n), min(m, n)
    parts = [
        factorizations.reflected(tall, thin),
        factorizations.rotated(tall, columns, thin),
        factorizations.substituted(thin, columns),
    ]
    for driver in (None, "gels", "gelsy"):
        reading = count(lambda driver=driver: torch.linalg.lstsq(a, b, driver=driver))
        assert reading.total == sum(part.flops(a) for part in parts)
    by_svd = min(4 * tall * thin**2 + 8 * thin**3, 2 * tall * thin**2 + 11 * thin**3)
    applied = 2 * thin * (tall + thin) * columns
    assert count(lambda: torch.linalg.lstsq(a, b, driver="gelsd")).total == by_svd + applied
