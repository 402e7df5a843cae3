"""Gradients of batches and of examples, and the functions that they are gradients of."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sketchbench import Shapes
from sketchbench.builtin import GPT
from sketchbench.curvature import Function, gradient, gradients, sizes


def mlp(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))


def batch(count=7, seed=1):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, generator=rng), torch.randint(3, (count,), generator=rng)


def by_backward(model, loss, inputs, targets):
    model.zero_grad()
    loss(model(inputs), targets).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize("chunk", [None, 1, 3, 7, 100])
def test_each_example_has_the_gradient_that_backward_gives_it(chunk):
    model, (inputs, targets) = mlp().double(), batch()
    inputs = inputs.double()
    found = gradients(model, F.cross_entropy, inputs, targets, chunk)
    for row, x, y in zip(found, inputs, targets, strict=True):
        torch.testing.assert_close(
            row, by_backward(model, F.cross_entropy, x[None], y[None]), rtol=0, atol=1e-13
        )
    whole = gradient(model, F.cross_entropy, inputs, targets)
    torch.testing.assert_close(found.mean(0), whole, rtol=0, atol=1e-13)


def test_a_transformer_has_gradients_a_window():
    torch.manual_seed(0)
    model = GPT(layers=1, width=8, heads=2).build(Shapes((5,), 7)).double()
    inputs, targets = torch.randint(7, (2, 3, 5))

    def loss(outputs, targets):
        return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())

    found = gradients(model, loss, inputs, targets, 2)
    whole = by_backward(model, loss, inputs, targets)
    torch.testing.assert_close(found.mean(0), whole, rtol=0, atol=1e-13)


def test_the_model_is_left_alone():
    model, (inputs, targets) = mlp(), batch()
    found = gradients(model, F.cross_entropy, inputs, targets)
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not found.requires_grad
    doubled = gradients(model, F.cross_entropy, inputs, targets, dtype=torch.float64)
    assert doubled.dtype == torch.float64
    assert next(model.parameters()).dtype == torch.float32


def test_layers_are_chosen_by_the_names_of_parameters_or_modules():
    model, (inputs, targets) = mlp(), batch()
    assert sizes(model) == {"0.weight": 20, "0.bias": 5, "2.weight": 15, "2.bias": 3}
    assert sizes(model, "2") == sizes(model, "2.*") == {"2.weight": 15, "2.bias": 3}
    assert list(sizes(model, "*.bias")) == ["0.bias", "2.bias"]
    whole = gradient(model, F.cross_entropy, inputs, targets)
    part = gradient(model, F.cross_entropy, inputs, targets, layers="2")
    torch.testing.assert_close(part, whole[25:])


def test_frozen_parameters_and_copies_of_shared_ones_are_no_part_of_the_vector():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3))
    model[1].weight = model[0].weight
    model[0].bias.requires_grad_(False)
    assert list(sizes(model)) == ["0.weight", "1.bias", "2.weight", "2.bias"]
    inputs, targets = batch()
    found = gradient(model, F.cross_entropy, inputs, targets)
    F.cross_entropy(model(inputs), targets).backward()
    torch.testing.assert_close(found[:16], model[0].weight.grad.flatten())


def test_a_name_that_no_layer_has_is_told_with_those_known():
    with pytest.raises(ValueError, match=r"layers '3\*'; known: 0.weight, 0.bias, 2.weight"):
        sizes(mlp(), "3*")


@pytest.mark.parametrize(
    ("layer", "what"),
    [
        (nn.Dropout(0.2), "drops entries with probability 0.2"),
        (nn.BatchNorm1d(4), "normalises by the batch's own statistics"),
    ],
)
def test_what_makes_an_example_random_or_dependent_on_others_is_refused_in_training(layer, what):
    model, (inputs, targets) = nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 3)), batch()
    with pytest.raises(ValueError, match=rf"curvature: '1' \({type(layer).__name__}\) {what}"):
        gradients(model, F.cross_entropy, inputs, targets)
    before = {name: value.clone() for name, value in model.named_buffers()}
    found = gradients(model.eval(), F.cross_entropy, inputs, targets)
    torch.testing.assert_close(found.mean(0), gradient(model, F.cross_entropy, inputs, targets))
    for name, value in model.named_buffers():
        assert torch.equal(value, before[name])


def test_batch_statistics_in_evaluation_are_refused_too():
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False))
    with pytest.raises(ValueError, match="track_running_stats is off"):
        Function(model.eval())


def test_counts_that_do_not_fit_are_refused():
    model, (inputs, targets) = mlp(), batch()
    with pytest.raises(ValueError, match="7 inputs but 6 targets"):
        gradients(model, F.cross_entropy, inputs, targets[:6])
    with pytest.raises(ValueError, match="chunk 0 must be at least 1"):
        gradients(model, F.cross_entropy, inputs, targets, 0)
