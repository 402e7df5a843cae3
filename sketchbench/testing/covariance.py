"""Laws of a covariance sketch: a running estimate of C = Σ aaᵀ, in which updates may decay.

These hold for every member, exact or not; how near the estimate is, is a plugin's own test, but
for a bound that a recipe promises.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from sketchbench import CovarianceEstimate, CovarianceSketch

SIZE = 20
EXPONENTS = (-1.0, -0.5, -0.25, 0.5, 1.0)


def starts_from_zero(subject: CovarianceSketch) -> None:
    """Before any row, and after rows of zeros, the estimate is 0 and its powers are finite."""
    estimate = _built(subject)
    for state in ("before any row", "after rows of zeros"):
        dense = estimate.dense()
        assert dense.shape == (SIZE, SIZE), f"expected ({SIZE}, {SIZE}); got {tuple(dense.shape)}"
        assert not dense.any(), f"expected C = 0 {state}; its largest entry is {dense.abs().max()}"
        x = _normal(SIZE, 2, seed=1)
        _near(estimate.power(x, -0.5, 4.0), x / 2, f"(0 + 4I)^-½ x = x/2 {state}")
        estimate.update(torch.zeros(3, SIZE))


def holds_one_row(subject: CovarianceSketch) -> None:
    """After one row the estimate is aaᵀ: rank 1 is held by every sketch."""
    estimate, rows = _built(subject), _normal(1, SIZE, seed=1)
    estimate.update(rows)
    _near(estimate.dense(), rows.mT @ rows, "C = aaᵀ after one row a")


def adds_every_row(subject: CovarianceSketch) -> None:
    """Rows a, then 2a, then a twice make (β² + 4β + 2)·aaᵀ: a sum over all rows of all updates.

    It stays of rank 1, which every sketch holds; means, lost rows and a decay other than the
    declared one all make something else of it.
    """
    estimate, rows, beta = _built(subject), _normal(1, SIZE, seed=1), subject.decay
    for update in (rows, 2 * rows, rows.repeat(2, 1)):
        estimate.update(update)
    weight = beta**2 + 4 * beta + 2
    law = f"C = {weight:g}·aaᵀ after the rows a, 2a, a and a, with decay {beta:g}"
    _near(estimate.dense(), weight * rows.mT @ rows, law)


def keeps_the_bounds_that_it_promises(subject: CovarianceSketch) -> None:
    """`dense() − tail·I ⪯ C ⪯ dense()`, if the recipe says `sandwich`; the tail isn't below 0."""
    estimate, exact = _built(subject), torch.zeros(SIZE, SIZE, dtype=torch.float64)
    for rows in _stream(1.0):
        estimate.update(rows)
        exact = subject.decay * exact + rows.mT.double() @ rows.double()
        tail = estimate.tail.double()
        assert tail.shape == (), f"expected a scalar tail; got shape {tuple(tail.shape)}"
        assert tail >= 0, f"expected a tail of 0 or more; got {float(tail)}"
        if not subject.sandwich:
            continue
        upper = estimate.dense().double() - exact
        lower = tail * torch.eye(SIZE, dtype=torch.float64) - upper
        allowed = 5e-5 * float(torch.linalg.matrix_norm(exact, 2))
        for least, law in ((upper, "C ⪯ dense()"), (lower, "dense() − tail·I ⪯ C")):
            value = float(torch.linalg.eigvalsh(least)[0])
            assert value >= -allowed, f"expected {law}; off by {-value:.3g}, allowed {allowed:.3g}"


def is_symmetric_and_semi_definite(subject: CovarianceSketch) -> None:
    """The estimate is symmetric, and no eigenvalue is below 0 by more than rounding."""
    estimate = _fed(subject)
    dense = estimate.dense().double()
    _near(dense, dense.mT, "a symmetric estimate")
    least, trace = float(torch.linalg.eigvalsh(dense)[0]), float(dense.trace())
    assert least >= -1e-5 * trace, f"expected no eigenvalue below 0; got {least} (trace {trace})"


def has_powers_of_its_dense_form(subject: CovarianceSketch) -> None:
    """power(x, e, ridge) = (dense() + ridge·I)^e x, computed densely in float64."""
    estimate = _fed(subject)
    dense, x = estimate.dense().double(), _normal(SIZE, 3, seed=2)
    ridge = 0.1 * float(dense.trace()) / SIZE  # condition at most 1 + 10·SIZE: 2e-5 of rounding
    values, vectors = torch.linalg.eigh(dense)
    for exponent in EXPONENTS:
        powers = (values.clamp_min(0) + ridge) ** exponent
        expected = (vectors * powers) @ vectors.mT @ x.double()
        actual = estimate.power(x, exponent, ridge)
        _near(actual, expected, f"power(x, {exponent}, ridge) = (dense() + ridge·I)^{exponent} x")


def takes_any_number_of_rows(subject: CovarianceSketch) -> None:
    """Updates of 1, d and more than d rows, and of size d = 1, are all rows of one stream."""
    for size in (1, 2, SIZE):
        estimate = subject.build(size, torch.device("cpu"))
        for rows in (1, size, 3 * size + 1):
            estimate.update(_normal(rows, size, seed=rows))
        dense = estimate.dense()
        assert dense.shape == (size, size), f"expected ({size}, {size}); got {tuple(dense.shape)}"
        assert dense.isfinite().all(), f"expected a finite estimate at d={size}"
        assert dense.trace() > 0, f"expected a trace above 0 at d={size}; got {dense.trace()}"


def scales_with_its_rows(subject: CovarianceSketch) -> None:
    """Rows c·a give c²·C, at every order of size."""
    expected = _fed(subject).dense()
    for scale in (2.0**-20, 2.0**20):
        scaled = _fed(subject, scale).dense() / scale**2
        _near(scaled, expected, f"C of {scale:g}·a to be {scale:g}²·C of a")


def repeats(subject: CovarianceSketch) -> None:
    """The same stream gives the same estimate, to the bit; rows and global generator are left."""
    rows, before = _normal(30, SIZE, seed=3), torch.get_rng_state()
    kept = rows.clone()
    first, second = _built(subject), _built(subject)
    first.update(rows)
    second.update(rows)
    assert torch.equal(rows, kept), "expected update to leave its rows as they are"
    assert torch.equal(first.dense(), second.dense()), "expected one stream to give one estimate"
    assert torch.equal(before, torch.get_rng_state()), (
        "expected torch's global generator to be untouched"
    )


def is_not_poisoned_by_rows_that_are_not_finite(subject: CovarianceSketch) -> None:
    """Rows with NaN or ∞ raise `ValueError` or are left out: the estimate stays as it was."""
    for value in (torch.nan, torch.inf):
        estimate, twin = _fed(subject), _fed(subject)
        rows = _normal(3, SIZE, seed=4)
        rows[1, 2] = value
        try:
            estimate.update(rows)
        except ValueError:
            assert torch.equal(estimate.dense(), twin.dense()), (
                f"expected rows with {value} that raise to change nothing"
            )
        dense = estimate.dense()
        assert dense.isfinite().all(), f"expected a finite estimate after rows with {value}"


def takes_rows_of_float64(subject: CovarianceSketch) -> None:
    """Rows of float64 are taken, and one is held as one of float32 is."""
    estimate, rows = _built(subject), _normal(1, SIZE, seed=1).double()
    estimate.update(rows)
    _near(estimate.dense(), rows.mT @ rows, "C = aaᵀ after one row a of float64")


LAWS = (
    starts_from_zero,
    holds_one_row,
    adds_every_row,
    keeps_the_bounds_that_it_promises,
    is_symmetric_and_semi_definite,
    has_powers_of_its_dense_form,
    takes_any_number_of_rows,
    scales_with_its_rows,
    repeats,
    is_not_poisoned_by_rows_that_are_not_finite,
    takes_rows_of_float64,
)


def _built(subject: CovarianceSketch) -> CovarianceEstimate:
    return subject.build(SIZE, torch.device("cpu"))


def _fed(subject: CovarianceSketch, scale: float = 1.0) -> CovarianceEstimate:
    """Return an estimate that has seen three updates of unequal size and decaying spectrum."""
    estimate = _built(subject)
    for rows in _stream(scale):
        estimate.update(rows)
    return estimate


def _stream(scale: float) -> list[Tensor]:
    """Return three updates of unequal size."""
    decay = scale * 0.8 ** torch.arange(SIZE)
    return [_normal(rows, SIZE, seed=seed) * decay for seed, rows in enumerate((5, 30, 1))]


def _normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


def _near(actual: Tensor, expected: Tensor, law: str) -> None:
    difference = float((actual.double() - expected.double()).norm())
    bound = 1e-3 * float(expected.double().norm())
    assert difference <= bound, (
        f"expected {law}; off by {difference:.3g} in the Frobenius norm, allowed {bound:.3g}"
    )
