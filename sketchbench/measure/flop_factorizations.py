"""FLOP formulas of matrix factorizations, of what solves with them, and of eigenvalues.

Direct methods are counted exactly, as in LAPACK Working Note 41 [Blackford Dongarra 1999, tables
of operation counts]: a division or a square root counts as a multiplication. Iterative ones count
with their customary leading term, half multiplications and half additions, as their true count
depends on the data: [Golub Van Loan 2013] and [LAPACK Users' Guide 1999, table 3.13]. LAPACK's
divide and conquer, which torch runs, often does less. Matrices are (…, m, n); batches add up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sketchbench.measure.flop_formulas import formula, real_flops


@dataclass(frozen=True)
class Work:
    """Multiplications (with divisions and roots) and additions, in the matrix's own numbers."""

    multiplications: int
    additions: int

    def __add__(self, other: Work) -> Work:
        return Work(self.multiplications + other.multiplications, self.additions + other.additions)

    def flops(self, matrix: Tensor) -> int:
        """Return the operations on real numbers for every matrix of the batch."""
        return batch(matrix) * real_flops(matrix, self.multiplications, self.additions)


def batch(matrix: Tensor) -> int:
    """Return how many matrices there are."""
    return math.prod(matrix.shape[:-2])


def customary(flops: int) -> Work:
    """Return a count that is known by its leading term alone: as many additions as products."""
    return Work(flops - flops // 2, flops // 2)


# ---------------------------------------------------------------- orthogonal factors


def reflected(m: int, n: int) -> Work:
    """Householder reduction of (m, n) to triangular form, 2n²(m − n/3) for m ≥ n.

    [LAWN 41, SGEQRF; Golub Van Loan 2013, §5.2.2]
    """
    if m > n:
        cubic = n * (3 - 2 * n + 6 * m)
        return Work(n * (cubic + 6 * m + 23) // 6, n * (cubic + 5) // 6)
    cubic = m * (6 * n - 2 * m - 3)
    return Work(m * (cubic + 12 * n + 23) // 6, m * (cubic + 6 * n + 5) // 6)


def accumulated(m: int, n: int, k: int) -> Work:
    """The first n columns of Q (m, m) from k reflectors, 4mnk − 2(m + n)k² + 4k³/3.

    [LAWN 41, SORGQR; Golub Van Loan 2013, §5.1.6]
    """
    return Work(
        k * (6 * m * n + 6 * n - 5 + k * (2 * k - 3 * (m + n) - 3)) // 3,
        k * (6 * m * n + 3 * n - 3 * m + 1 + k * (2 * k - 3 * (m + n))) // 3,
    )


def rotated(m: int, n: int, k: int, left: bool = True) -> Work:
    """Q or Qᵀ of k reflectors applied to (m, n), 4mnk − 2nk² from the left.

    [LAWN 41, SORMQR; Golub Van Loan 2013, §5.1.4]
    """
    if left:
        return Work(n * k * (2 * m - k + 2), n * k * (2 * m - k + 1))
    rest = n * k - k * (k - 1) // 2
    return Work(m * k * (2 * n - k + 1) + rest, m * k * (2 * n - k + 1))


@formula("geqrf")
def geqrf(a: Tensor, *_: Any, **__: Any) -> int:
    """A (…, m, n) to R and reflectors."""
    m, n = a.shape[-2:]
    return reflected(m, n).flops(a)


@formula("linalg_qr")
def qr(a: Tensor, mode: str = "reduced", **_: Any) -> int:
    """A (…, m, n) to R, and to Q (m, m) where `complete`, (m, min(m, n)) where `reduced`."""
    m, n = a.shape[-2:]
    work, k = reflected(m, n), min(m, n)
    if mode != "r":
        work += accumulated(m, m if mode == "complete" else k, k)
    return work.flops(a)


@formula("linalg_householder_product")
def householder_product(a: Tensor, tau: Tensor, **_: Any) -> int:
    """Q (…, m, n) from the reflectors of A and `tau` (…, k)."""
    m, n = a.shape[-2:]
    return accumulated(m, n, tau.shape[-1]).flops(a)


@formula("ormqr")
def ormqr(a: Tensor, tau: Tensor, c: Tensor, left: bool = True, *_: Any, **__: Any) -> int:
    """Q of `tau` (…, k) applied to C (…, m, n) from one side."""
    m, n = c.shape[-2:]
    return rotated(m, n, tau.shape[-1], left).flops(c)


@formula("linalg_lstsq")
def lstsq(a: Tensor, b: Tensor, *_: Any, driver: str | None = None, out_val: Any, **__: Any) -> int:
    """By QR of A or of Aᵀ, whichever is tall, or by an SVD where the driver is gelsd or gelss.

    [Golub Van Loan 2013, §5.3.3, §5.6.2 and table 5.5.1]
    """
    tall, thin = max(a.shape[-2:]), min(a.shape[-2:])
    solution = out_val[0]
    columns = solution.shape[-1] if solution.ndim == a.ndim else 1
    if driver in ("gelsd", "gelss"):
        cube = min(4 * tall * thin**2 + 8 * thin**3, 2 * tall * thin**2 + 11 * thin**3)
        work = customary(cube + 2 * thin * (tall + thin) * columns)
    else:
        work = reflected(tall, thin) + rotated(tall, columns, thin) + substituted(thin, columns)
    return work.flops(a)


# ---------------------------------------------------------------- triangular factors


def cholesky(n: int) -> Work:
    """LLᵀ of (n, n), n³/3. [LAWN 41, SPOTRF; Golub Van Loan 2013, §4.2.5]"""
    return Work(n * (n + 1) * (n + 2) // 6, (n - 1) * n * (n + 1) // 6)


def lu(m: int, n: int) -> Work:
    """LU of (m, n) with partial pivoting, n²(m − n/3) for m ≥ n, by the steps' sum.

    [LAWN 41, SGETRF; Golub Van Loan 2013, §3.2.6 and §3.2.10]
    """
    r = min(m, n)
    steps, squares = r * (r + 1) // 2, r * (r + 1) * (2 * r + 1) // 6
    updates = r * m * n - (m + n) * steps + squares  # Σ (m − i)(n − i)
    return Work(updates + r * m - steps, updates)


def substituted(n: int, columns: int, unit: bool = False) -> Work:
    """Solve with a triangular (n, n), n² a column. [LAWN 41, STRSM; Golub Van Loan 2013, §3.1]"""
    below = columns * n * (n - 1) // 2
    return Work(below if unit else below + columns * n, below)


@formula("linalg_cholesky_ex", "cholesky", "linalg_ldl_factor_ex")
def cholesky_of(a: Tensor, *_: Any, **__: Any) -> int:
    """LLᵀ of A (…, n, n), or LDLᵀ, which takes as much. [Golub Van Loan 2013, §4.4]"""
    return cholesky(a.shape[-1]).flops(a)


@formula("cholesky_inverse")
def cholesky_inverse(a: Tensor, *_: Any, **__: Any) -> int:
    """A⁻¹ from its factor, 2n³/3. [LAWN 41, SPOTRI]"""
    n = a.shape[-1]
    return Work(n * (n + 1) * (n + 2) // 3, (n - 1) * n * (2 * n - 1) // 6).flops(a)


@formula("linalg_lu", "linalg_lu_factor_ex", "_linalg_det", "_linalg_slogdet")
def lu_of(a: Tensor, *_: Any, **__: Any) -> int:
    """LU of A (…, m, n); a determinant takes no more to speak of."""
    m, n = a.shape[-2:]
    return lu(m, n).flops(a)


@formula("_linalg_solve_ex")
def solve(a: Tensor, *_: Any, out_val: Any, **__: Any) -> int:
    """LU of A (…, n, n), and two triangular solves for each column. [LAWN 41, SGETRF, SGETRS]"""
    return lu_of(a) + _solves(out_val[0], a.shape[-1], unit=True)


@formula("linalg_inv_ex")
def inverse(a: Tensor, **_: Any) -> int:
    """A solve with the identity, as torch does it: 8n³/3, where SGETRI would take 2n³."""
    return lu_of(a) + _solves(a, a.shape[-1], unit=True)


@formula("linalg_lu_solve", "linalg_ldl_solve")
def factored_solve(factors: Tensor, *_: Any, out_val: Tensor, **__: Any) -> int:
    """Two triangular solves for each column, one with a unit diagonal. [LAWN 41, SGETRS]

    After LDLᵀ: both have one, and a solve with the diagonal (2n² a column together).
    """
    return _solves(out_val, factors.shape[-1], unit=True)


@formula("cholesky_solve")
def cholesky_solve(_: Tensor, factor: Tensor, *__: Any, out_val: Tensor, **___: Any) -> int:
    """Two triangular solves, 2n² a column. [LAWN 41, SPOTRS]"""
    return _solves(out_val, factor.shape[-1], unit=False)


@formula("linalg_solve_triangular")
def solve_triangular(
    a: Tensor, *_: Any, unitriangular: bool = False, out_val: Tensor, **__: Any
) -> int:
    """One triangular solve from the left or from the right. [LAWN 41, STRSM]"""
    n = a.shape[-1]
    work = substituted(n, _columns(out_val, n), unitriangular)
    return real_flops(out_val, work.multiplications, work.additions)


@formula("triangular_solve")
def triangular_solve(
    _: Tensor,
    a: Tensor,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
    *,
    out_val: Any,
    **__: Any,
) -> int:
    """One triangular solve from the left. [LAWN 41, STRSM]"""
    return solve_triangular(a, unitriangular=unitriangular, out_val=out_val[0])


# ---------------------------------------------------------------- eigenvalues and singular values


def svd(m: int, n: int, vectors: bool = True, full: bool = False) -> int:
    """Golub-Reinsch or R-SVD, whichever takes less. [Golub Van Loan 2013, figure 8.6.1]"""
    m, n = max(m, n), min(m, n)
    if not vectors:
        return min(4 * m * n**2 - 4 * n**3 // 3, 2 * m * n**2 + 2 * n**3)
    if full:
        return min(4 * m**2 * n + 8 * m * n**2 + 9 * n**3, 4 * m**2 * n + 22 * n**3)
    return min(14 * m * n**2 + 8 * n**3, 6 * m * n**2 + 20 * n**3)


def eigh(n: int, vectors: bool = True) -> int:
    """The symmetric QR algorithm: 9n³, or 4n³/3 without vectors. [Golub Van Loan 2013, §8.3.3]"""
    return 9 * n**3 if vectors else -(-4 * n**3 // 3)


@formula("_linalg_svd")
def svd_of(
    a: Tensor, full_matrices: bool = False, compute_uv: bool = True, *_: Any, **__: Any
) -> int:
    """Singular values of A (…, m, n), and vectors where they are computed."""
    m, n = a.shape[-2:]
    return customary(svd(m, n, compute_uv, full_matrices)).flops(a)


@formula("linalg_svdvals")
def svdvals(a: Tensor, *_: Any, **__: Any) -> int:
    """Singular values alone."""
    return svd_of(a, compute_uv=False)


@formula("_linalg_eigh")
def eigh_of(a: Tensor, uplo: str = "L", compute_v: bool = True, *_: Any, **__: Any) -> int:
    """Eigenvalues of a symmetric A (…, n, n), and vectors where they are computed."""
    return customary(eigh(a.shape[-1], compute_v)).flops(a)


@formula("linalg_eigvalsh")
def eigvalsh(a: Tensor, *_: Any, **__: Any) -> int:
    """Eigenvalues of a symmetric A (…, n, n) alone."""
    return eigh_of(a, compute_v=False)


@formula("linalg_eig")
def eig(a: Tensor, *_: Any, **__: Any) -> int:
    """Eigenvalues and right eigenvectors, 26.33 n³. [LAPACK Users' Guide 1999, table 3.13]"""
    return customary(79 * a.shape[-1] ** 3 // 3).flops(a)


@formula("linalg_eigvals", "_linalg_eigvals")
def eigvals(a: Tensor, *_: Any, **__: Any) -> int:
    """Eigenvalues alone, 10 n³. [Golub Van Loan 2013, §7.5.6]"""
    return customary(10 * a.shape[-1] ** 3).flops(a)


@formula("linalg_pinv")
def pinv(a: Tensor, *options: Any, hermitian: bool = False, **_: Any) -> int:
    """The SVD (or eigenvalues) of A (…, m, n) and the product VΣ⁺Uᵀ. [Golub Van Loan 2013, §5.5]"""
    m, n = a.shape[-2:]
    inverted = customary(2 * m * n * min(m, n)).flops(a)
    return inverted + (eigh_of(a) if hermitian or options[-1:] == (True,) else svd_of(a))


# ---------------------------------------------------------------- right-hand sides


def _columns(result: Tensor, n: int) -> int:
    return result.numel() // n if n else 0


def _solves(result: Tensor, n: int, unit: bool) -> int:
    """Two triangular solves for all columns of a result, one of them `unit`."""
    columns = _columns(result, n)
    work = substituted(n, columns, unit) + substituted(n, columns)
    return real_flops(result, work.multiplications, work.additions)
