import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

# torch says so of operations that it still has, and whose count matters therefore
pytestmark = pytest.mark.filterwarnings("ignore:.*(deprecated|beta)")

LINALG = {
    "qr": lambda m, t, p, b: torch.linalg.qr(m),
    "qr r": lambda m, t, p, b: torch.linalg.qr(m, mode="r"),
    "qr complete": lambda m, t, p, b: torch.linalg.qr(m, mode="complete"),
    "geqrf": lambda m, t, p, b: torch.geqrf(m),
    "householder_product": lambda m, t, p, b: torch.linalg.householder_product(m, t[..., 0]),
    "ormqr": lambda m, t, p, b: torch.ormqr(m, t[..., 0], m),
    "svd": lambda m, t, p, b: torch.linalg.svd(m),
    "svd reduced": lambda m, t, p, b: torch.linalg.svd(m, full_matrices=False),
    "svdvals": lambda m, t, p, b: torch.linalg.svdvals(m),
    "eigh": lambda m, t, p, b: torch.linalg.eigh(p),
    "eigvalsh": lambda m, t, p, b: torch.linalg.eigvalsh(p),
    "eig": lambda m, t, p, b: torch.linalg.eig(t),
    "eigvals": lambda m, t, p, b: torch.linalg.eigvals(t),
    "cholesky": lambda m, t, p, b: torch.linalg.cholesky(p),
    "cholesky_ex": lambda m, t, p, b: torch.linalg.cholesky_ex(p),
    "cholesky_solve": lambda m, t, p, b: torch.cholesky_solve(b, p),
    "cholesky_inverse": lambda m, t, p, b: torch.cholesky_inverse(p),
    "lu": lambda m, t, p, b: torch.linalg.lu(t),
    "lu_factor": lambda m, t, p, b: torch.linalg.lu_factor(t),
    "lu_solve": lambda m, t, p, b: torch.linalg.lu_solve(*torch.linalg.lu_factor(t), b),
    "ldl_factor": lambda m, t, p, b: torch.linalg.ldl_factor(p),
    "ldl_solve": lambda m, t, p, b: torch.linalg.ldl_solve(*torch.linalg.ldl_factor(p), b),
    "solve": lambda m, t, p, b: torch.linalg.solve(t, b),
    "solve_ex": lambda m, t, p, b: torch.linalg.solve_ex(t, b),
    "tensorsolve": lambda m, t, p, b: torch.linalg.tensorsolve(t[0], b[0, :, 0]),
    "inv": lambda m, t, p, b: torch.linalg.inv(t),
    "pinv": lambda m, t, p, b: torch.linalg.pinv(m),
    "pinv hermitian": lambda m, t, p, b: torch.linalg.pinv(p, hermitian=True),
    "solve_triangular": lambda m, t, p, b: torch.linalg.solve_triangular(p, b, upper=True),
    "triangular_solve": lambda m, t, p, b: torch.triangular_solve(b, p),
    "det": lambda m, t, p, b: torch.linalg.det(t),
    "slogdet": lambda m, t, p, b: torch.linalg.slogdet(t),
    "matrix_power": lambda m, t, p, b: torch.linalg.matrix_power(t, 3),
    "matrix_rank": lambda m, t, p, b: torch.linalg.matrix_rank(m),
    "matrix_norm": lambda m, t, p, b: torch.linalg.matrix_norm(m, 2),
    "norm": lambda m, t, p, b: torch.linalg.norm(m[0], "nuc"),
    "cond": lambda m, t, p, b: torch.linalg.cond(m),
    "multi_dot": lambda m, t, p, b: torch.linalg.multi_dot([m[0], t[0], b[0]]),
    "matmul": lambda m, t, p, b: torch.linalg.matmul(m, b),
    "fft": lambda m, t, p, b: torch.fft.fft2(m),
    "rfft": lambda m, t, p, b: torch.fft.irfft(torch.fft.rfft(m)),
    "index_add": lambda m, t, p, b: t.index_add(-2, torch.arange(5), t),
}  # fmt: skip


@pytest.fixture
def arguments(rand):
    """Draw a tall, a square, a positive definite matrix and two right-hand sides, in batches."""

    def draw(*batch):
        t = rand(*batch, 5, 5)
        return rand(*batch, 8, 5), t, t @ t.mT + 5 * torch.eye(5), t[..., :2]

    return draw


@pytest.mark.parametrize("name", LINALG)
def test_linear_algebra_counts_something_and_as_much_on_fake_tensors(count, arguments, name):
    work = LINALG[name]
    drawn = arguments(2)
    real = count(lambda: work(*drawn))
    assert real.total > 0
    assert real.missing == ()
    with FakeTensorMode() as mode:
        fake = [mode.from_tensor(tensor) for tensor in drawn]
        assert count(lambda: work(*fake)) == real


@pytest.mark.parametrize(
    "name", sorted(set(LINALG) - {"tensorsolve", "norm", "multi_dot"})  # they take no batch
)  # fmt: skip
def test_batches_add_up(count, arguments, name):
    work = LINALG[name]
    one, many = arguments(1), arguments(3, 2)
    assert count(lambda: work(*many)).total == 6 * count(lambda: work(*one)).total


@pytest.mark.parametrize("name", sorted(set(LINALG) - {"tensorsolve", "matrix_rank"}))
def test_empty_matrices_count_nothing(count, name):
    m, t, b = torch.empty(1, 0, 0), torch.empty(1, 0, 0), torch.empty(1, 0, 2)
    try:
        reading = count(lambda: LINALG[name](m, t, t, b))
    except (RuntimeError, IndexError):
        return  # torch has no such thing
    assert reading.total == 0
