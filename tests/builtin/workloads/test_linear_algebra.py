"""Linear algebra: closed forms of orthogonal and Gaussian sketches, and dense truths."""

import math

import pytest
import torch
from pydantic import ValidationError

from sketchbench import Field, GradientSketch, Missing
from sketchbench.builtin import Digits, LinearAlgebra, RelativeError
from sketchbench.builtin.metrics.linear_algebra import (
    EmbeddingDistortion,
    LowRankRatio,
    LSQRIterations,
    LSQRSaving,
    ResidualRatio,
)
from sketchbench.builtin.workloads.low_rank import Nystrom
from sketchbench.builtin.workloads.matrices import (
    features,
    kernel,
    orthonormal,
    planted_matrix,
    planted_target,
    planted_values,
)
from sketchbench.run import Run

CPU = torch.device("cpu")
SMALL = {"rows": 96, "columns": 8, "rank": 3, "planted": 3, "repeats": 4}


class Made(GradientSketch):
    """Orthogonal, Gaussian, or the first coordinates."""

    name = "test-made"
    how: str = Field("gaussian")
    out_size: int = Field(32)

    def build(self, size, rng, device):
        if self.how == "first":
            return Matrix(torch.eye(self.out_size, size, dtype=torch.double))
        drawn = torch.randn(self.out_size, size, generator=rng, dtype=torch.double)
        if self.how == "orthogonal":
            return Matrix(torch.linalg.qr(torch.randn(size, size, generator=rng).double())[0])
        return Matrix(drawn / math.sqrt(self.out_size))


class Matrix:
    def __init__(self, matrix):
        self.matrix, self.shape = matrix, tuple(matrix.shape)

    def apply(self, x):
        assert x.dtype is torch.double
        return x @ self.matrix.mT


class Scripted(Run):
    def __init__(self, seed=0):
        super().__init__(CPU, seed)
        self.found = {}

    def deliver(self, name, outcome, at=None):
        self.found[name] = outcome() if callable(outcome) else outcome


def ran(how="gaussian", out_size=32, **fields):
    run = Scripted()
    LinearAlgebra(**(SMALL | {"sketch": Made(how=how, out_size=out_size)} | fields)).run(run)
    assert set(run.found) == set(LinearAlgebra.outcomes)
    return run.found


def normal(*shape, seed=0):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=rng, dtype=torch.double)


# ---------------------------------------------------------------- closed forms


@pytest.mark.parametrize("spectrum", ["power", "low-rank"])
@pytest.mark.parametrize("coherence", ["incoherent", "coherent"])
def test_an_orthogonal_sketch_loses_nothing(spectrum, coherence):
    found = ran("orthogonal", spectrum=spectrum, coherence=coherence)
    assert ResidualRatio()(found["solved"]) == pytest.approx(1, abs=1e-12)
    assert EmbeddingDistortion()(found["embedding"]) == pytest.approx(0, abs=1e-12)
    assert LowRankRatio()(found["svd"]) == pytest.approx(1, abs=1e-10)
    assert LowRankRatio()(found["nystrom"]) == pytest.approx(1, abs=1e-8)
    assert RelativeError()(found["spectrum"]) == pytest.approx(0, abs=1e-12)
    assert LSQRIterations()(found["preconditioned"]) <= 2  # AR⁻¹ has orthonormal columns
    assert LSQRSaving()(found["preconditioned"]) < 1


def test_the_residual_of_a_gaussian_sketch_is_that_of_theory():
    # E‖Ax̂ − b‖² / ‖Ax* − b‖² = 1 + n/(D − n − 1)
    solved = ran(repeats=400)["solved"]
    squared = (solved.residuals / solved.best).square()
    error = float(squared.std()) / math.sqrt(400)
    assert float(squared.mean()) == pytest.approx(1 + 8 / (32 - 8 - 1), abs=4.5 * error)


def test_a_gaussian_embedding_is_within_its_bound():
    # P(σ₁ > 1 + √(n/D) + t/√D) < exp(−t²/2), of σₙ alike [Davidson Szarek 2001]; 8 values, t = 6
    found = ran()["embedding"]
    slack = math.sqrt(8 / 32) + 6 / math.sqrt(32)
    assert (found.largest < 1 + slack).all()
    assert (found.smallest > 1 - slack).all()
    assert 0.1 < EmbeddingDistortion()(found) < slack


def test_lsqr_converges_at_the_rate_that_the_embedding_gives():
    # The condition number c of AR⁻¹ is that of SQ; the error falls by (c − 1)/(c + 1) at least.
    found = ran(
        out_size=48, spectrum="exponential", columns=64, rows=256, repeats=1, tolerance=1e-6
    )
    assert isinstance(found["solved"], Missing)
    found = ran(out_size=128, columns=32, rows=256, repeats=3, tolerance=1e-8)
    condition = found["embedding"].largest / found["embedding"].smallest
    enough = (math.log(2e8) / ((condition + 1) / (condition - 1)).log()).ceil()
    assert (found["preconditioned"].iterations <= enough + 2).all()


def test_too_few_rows_are_missing_for_least_squares_and_lose_a_direction():
    found = ran(out_size=6)
    for name in ("solved", "preconditioned"):
        assert isinstance(found[name], Missing)
        assert "6 rows are fewer than A's 8 columns" in str(found[name])
    assert EmbeddingDistortion()(found["embedding"]) >= 1
    assert isinstance(ran(out_size=2)["svd"], Missing)


def test_sampling_rows_loses_a_coherent_range():
    found = ran("first", coherence="coherent", limit=50)
    assert EmbeddingDistortion()(found["embedding"]) == pytest.approx(1)
    assert LSQRIterations()(found["preconditioned"]) == 50


# ---------------------------------------------------------------- low rank, against dense forms


def test_the_randomised_svd_is_the_best_within_the_row_space():
    run = Scripted()
    workload = LinearAlgebra(sketch=Made(out_size=5), **SMALL)
    workload.run(run)
    matrix = workload._problem(run.rng("matrix"))[0]
    for draw, error in enumerate(run.found["svd"].errors):
        s = Made(out_size=5).build(96, run.rng(f"sketch/{draw}"), CPU).matrix
        projector = torch.linalg.pinv(s @ matrix) @ (s @ matrix)
        u, values, v = torch.linalg.svd(matrix @ projector)
        kept = (u[:, :3] * values[:3]) @ v[:3]
        assert float(error) == pytest.approx(float((matrix - kept).norm()))
    assert (run.found["svd"].errors >= run.found["svd"].best).all()


@pytest.mark.parametrize("whole", [False, True])
def test_nystrom_errors_are_those_of_the_dense_form(whole):
    left, values = torch.linalg.qr(normal(30, 12))[0], torch.arange(12, 0, -1).double()
    dense = (left * values) @ left.mT
    s = Matrix(normal(7, 30, seed=1))
    psd = Nystrom.of(dense) if whole else Nystrom.planted(left, values)
    product = dense @ s.matrix.mT
    approx = product @ torch.linalg.pinv(s.matrix @ product, hermitian=True) @ product.mT
    found, vectors = torch.linalg.eigh(approx)
    best = (vectors[:, -4:] * found[-4:]) @ vectors[:, -4:].mT
    truth = torch.linalg.svdvals(dense - best).sum()
    assert psd.error(s, 4) == pytest.approx(float(truth))
    assert psd.best(4) == pytest.approx(sum(range(1, 9)))


# ---------------------------------------------------------------- matrices


@pytest.mark.parametrize(
    ("coherence", "largest"), [("incoherent", 0.6), ("coherent", 1.0), ("hadamard", 0.25)]
)
def test_planted_matrices_have_their_values_and_their_coherence(coherence, largest):
    rng = torch.Generator().manual_seed(0)
    values = planted_values("exponential", 8, 3)
    left = orthonormal(60, 8, coherence, rng)
    matrix = planted_matrix(left, values, rng)
    torch.testing.assert_close(torch.linalg.svdvals(matrix), values)
    leverage = torch.linalg.qr(matrix)[0].square().sum(1)
    if coherence == "incoherent":
        assert leverage.max() < largest
    else:
        assert leverage.max() == pytest.approx(largest)
    target = planted_target(matrix, 0.1, rng)
    fitted = matrix @ torch.linalg.lstsq(matrix, target[:, None]).solution.squeeze(1)
    assert float((target - fitted).norm() / fitted.norm()) == pytest.approx(0.1)


def test_spectra_are_as_they_are_called():
    assert planted_values("power", 3, 1).tolist() == [1, 1 / 2, 1 / 3]
    assert planted_values("exponential", 17, 1)[16] == pytest.approx(0.1)
    assert planted_values("low-rank", 3, 1).tolist() == [1, 1e-3, 1e-3]
    assert planted_values("flat", 2, 1).tolist() == [1, 1]


def test_features_are_real_columns_of_full_rank_and_the_targets():
    task = Digits(train_limit=100, test_limit=10)
    matrix, target = features(task, 100, torch.Generator().manual_seed(0))
    data = task.load("train")
    inputs = data.inputs.flatten(1).double()
    assert matrix.shape[1] == torch.linalg.matrix_rank(inputs) < 64
    assert torch.linalg.matrix_rank(matrix) == matrix.shape[1]
    assert target.sort().values.tolist() == data.targets.double().sort().values.tolist()
    found = ran(task=task, rows=100, out_size=96)
    assert ResidualRatio()(found["solved"]) > 1
    assert LowRankRatio()(found["nystrom"]) >= 1


def test_the_kernel_is_gaussian_and_as_wide_as_the_median_distance():
    x = normal(7, 3)
    found = kernel(x)
    distances = torch.pdist(x)
    width = distances.median()
    assert found[2, 5] == pytest.approx(float((-(((x[2] - x[5]).norm() / width) ** 2) / 2).exp()))
    torch.testing.assert_close(found.diagonal(), torch.ones(7, dtype=torch.double))


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rows": 8, "columns": 8}, "columns 8 must be fewer than rows 8"),
        ({"columns": 8, "rank": 8}, "rank 8 leaves no tail of 8 columns"),
        ({"rows": 30, "coherence": "hadamard"}, "'hadamard' of 8 columns takes 32 rows"),
    ],
)
def test_shapes_without_a_problem_are_refused(fields, message):
    with pytest.raises(ValidationError, match=message):
        LinearAlgebra(sketch=Made(), **(SMALL | fields))


def test_more_rows_than_examples_are_refused():
    with pytest.raises(ValueError, match="200 rows .* task 'digits' has 100"):
        ran(task=Digits(train_limit=100, test_limit=10), rows=200)
