"""Products with curvature matrices against the matrices themselves, in double precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sketchbench import Shapes
from sketchbench.builtin import GPT
from sketchbench.curvature import Function, Sketched, curvature, gradients
from sketchbench.linalg import RandomMatrix

CPU = torch.device("cpu")
KINDS = ["hessian", "ggn", "fisher", "empirical-fisher"]
EXACT = {"rtol": 0.0, "atol": 1e-10}


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def batch(count=7):
    rng = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 4, generator=rng, dtype=torch.float64)
    return inputs, torch.randint(3, (count,), generator=rng)


def matrix(product):
    """Every column, by products."""
    return torch.stack([product(axis) for axis in torch.eye(product.size, dtype=torch.float64)], 1)


def jacobian(model, inputs):
    """Of all outputs, flattened, in the parameters."""
    function = Function(model)
    return torch.func.jacrev(lambda at: function(at, inputs).flatten())(function.vector)


def dense(kind, model, loss, inputs, targets):
    """The matrix by definition, of a softmax model."""
    function = Function(model)
    if kind == "hessian":
        return torch.func.hessian(lambda at: loss(function(at, inputs), targets))(function.vector)
    if kind == "empirical-fisher":
        each = gradients(model, loss, inputs, targets)
        return each.T @ each / len(each)
    outputs = function(function.vector, inputs).detach()
    total = 0
    for row, at in zip(jacobian(model, inputs).split(3), outputs, strict=True):
        chances = at.softmax(0)
        total = total + row.T @ (chances.diag() - torch.outer(chances, chances)) @ row
    return total / len(inputs)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk", [None, 3])
def test_products_are_those_of_the_matrix(kind, chunk):
    model, (inputs, targets) = mlp(), batch()
    found = curvature(kind, model, F.cross_entropy, inputs, targets, chunk=chunk)
    truth = dense(kind, model, F.cross_entropy, inputs, targets)
    torch.testing.assert_close(matrix(found), truth, **EXACT)
    assert truth.norm() > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_a_transformers_curvature_is_symmetric_and_restricted_to_a_layer(kind):
    torch.manual_seed(0)
    model = GPT(layers=1, width=4, heads=2).build(Shapes((3,), 5)).double()
    inputs, targets = torch.randint(5, (2, 4, 3))

    def loss(outputs, targets):
        return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())

    found = curvature(kind, model, loss, inputs, targets, layers="1.attention.*")
    whole = curvature(kind, model, loss, inputs, targets)
    names = dict(Function(model).sizes)
    first = sum(size for name, size in list(names.items())[: list(names).index("1.norm1.bias") + 1])
    part = matrix(found)
    torch.testing.assert_close(part, part.T, **EXACT)
    x = torch.zeros(whole.size, dtype=torch.float64)
    x[first : first + found.size] = torch.randn(found.size, dtype=torch.float64)
    inside = slice(first, first + found.size)
    torch.testing.assert_close(whole(x)[inside], part @ x[inside], **EXACT)


def test_hessian_and_ggn_of_a_linear_model_with_squared_loss_are_one_and_known():
    """(2/nm) I ⊗ [X 1]ᵀ[X 1], for the mean over n examples and m outputs."""
    torch.manual_seed(0)
    model = nn.Linear(4, 2).double()
    inputs = batch()[0]
    targets = torch.randn(7, 2, dtype=torch.float64)
    gram = inputs.T @ inputs * 2 / 14
    for kind in ("hessian", "ggn"):
        found = curvature(kind, model, F.mse_loss, inputs, targets, layers="weight")
        torch.testing.assert_close(matrix(found), torch.block_diag(gram, gram), **EXACT)


def test_the_fisher_matrix_of_a_softmax_is_its_ggn():
    model, (inputs, targets) = mlp(), batch()
    fisher, ggn = (
        matrix(curvature(kind, model, F.cross_entropy, inputs, targets))
        for kind in ("fisher", "ggn")
    )
    torch.testing.assert_close(fisher, ggn, **EXACT)


def test_drawn_labels_make_a_matrix_whose_mean_is_the_fisher_matrix():
    """Within 6 standard errors of the trace; the matrix stays the same between products."""
    model, (inputs, targets) = mlp(), batch()
    exact = matrix(curvature("fisher", model, F.cross_entropy, inputs, targets)).trace()
    rng = torch.Generator().manual_seed(3)
    draws = []
    for _ in range(30):
        drawn = curvature(
            "fisher", model, F.cross_entropy, inputs, targets, layers="*", samples=4, rng=rng
        )
        found = matrix(drawn)
        torch.testing.assert_close(found, found.T, **EXACT)
        draws.append(found.trace())
    draws = torch.stack(draws)
    assert draws.std() > 0
    assert abs(draws.mean() - exact) <= 6 * draws.std() / len(draws) ** 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_a_sketched_matrix_is_symmetric_and_is_s_a_st(kind):
    model, (inputs, targets) = mlp(), batch()
    found = curvature(kind, model, F.cross_entropy, inputs, targets)
    sketch = RandomMatrix((9, found.size), 3, lambda tile, rng: tile.normal_(generator=rng), CPU)
    sketched = Sketched(found, sketch)
    seen = matrix(sketched)
    torch.testing.assert_close(seen, seen.T, **EXACT)
    rows = sketch.adjoint(torch.eye(9, dtype=torch.float64))
    torch.testing.assert_close(seen, rows @ matrix(found) @ rows.T, **EXACT)


def test_parameters_are_read_when_the_matrix_is_made():
    model, (inputs, targets) = mlp(), batch()
    found = curvature("hessian", model, F.cross_entropy, inputs, targets)
    vector = torch.ones(found.size, dtype=torch.float64)
    before = found(vector)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    assert torch.equal(found(vector), before)


def test_what_does_not_fit_is_refused():
    model, (inputs, targets) = mlp(), batch()
    found = curvature("ggn", model, F.cross_entropy, inputs, targets)
    with pytest.raises(ValueError, match=r"torch.float32 vector of shape \(43,\) doesn't fit"):
        found(torch.ones(43))
    with pytest.raises(ValueError, match=r"cross entropy .* another loss; take 'ggn'"):
        curvature("fisher", model, F.multi_margin_loss, inputs, targets)
    with pytest.raises(ValueError, match="samples .* need kind 'fisher' and an rng"):
        curvature("ggn", model, F.cross_entropy, inputs, targets, samples=2)
    with pytest.raises(ValueError, match="7 inputs and 6 targets"):
        curvature("ggn", model, F.cross_entropy, inputs, targets[:6])


@pytest.mark.parametrize("chunk", [None, 3])
@pytest.mark.parametrize("layers", ["0", "2.weight", "*"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_an_optimizer_does_later_changes_nothing_of_the_matrix(kind, layers, chunk):
    model, (inputs, targets) = mlp(), batch()
    options = {"layers": layers, "chunk": chunk}
    product = curvature(kind, model, F.cross_entropy, inputs, targets, **options)
    before = matrix(product)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    torch.testing.assert_close(matrix(product), before, **EXACT)
