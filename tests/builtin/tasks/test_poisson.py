import math

import pytest
import torch

from sketchbench.builtin import Poisson


@pytest.fixture(params=["train", "test"])
def split(request):
    return Poisson().load(request.param)


def on_boundary(points):
    return ((points == 0) | (points == 1)).any(dim=1)


def test_points_are_as_many_as_asked_for_and_each_where_it_belongs():
    inputs = Poisson(interior=70, boundary=30).load("train").inputs
    assert inputs.shape == (100, 2)
    assert ((inputs >= 0) & (inputs <= 1)).all()
    assert torch.equal(on_boundary(inputs), torch.arange(100) >= 70)
    assert not on_boundary(inputs[:70]).any()


def test_every_side_has_its_points():
    edge = Poisson().load("train").inputs[1000:]
    counts = [(edge[:, axis] == side).sum().item() for axis in (0, 1) for side in (0, 1)]
    assert sum(counts) == 200
    assert min(counts) > 25  # 50 expected, standard deviation 6


def test_points_are_drawn_once_and_for_all():
    once, again = (Poisson().load("train") for _ in range(2))
    assert torch.equal(once.inputs, again.inputs)
    longer = Poisson(interior=2000).load("train").inputs
    assert torch.equal(once.inputs[:1000], longer[:1000])


def test_the_test_points_are_a_grid_with_its_border():
    test = Poisson(grid=5).load("test")
    assert sorted(map(tuple, test.inputs.tolist())) == [
        (i / 4, j / 4) for i in range(5) for j in range(5)
    ]


def test_the_exact_solution_solves_the_equation(split):
    """With u and Δu from autograd, in double precision, nothing is lost."""
    points = split.inputs.double().requires_grad_()
    value = (torch.pi * points).sin().prod(dim=1)
    (slope,) = torch.autograd.grad(value.sum(), points, create_graph=True)
    curves = [
        torch.autograd.grad(slope[:, axis].sum(), points, retain_graph=True)[0][:, axis]
        for axis in (0, 1)
    ]
    outputs = torch.stack([value, sum(curves)], 1).detach()
    assert Poisson().loss(outputs, split.targets.double()).item() < 1e-9
    torch.testing.assert_close(outputs[:, 0], split.targets[:, -1].double(), atol=1e-6, rtol=1e-6)


def test_the_loss_is_two_means_one_of_them_weighted(split):
    task = Poisson(boundary_weight=7.0)
    targets = task.load("train").targets
    outputs = torch.randn(1200, 2, generator=torch.Generator().manual_seed(0))
    right = 2 * math.pi**2 * targets[:1000, 3]
    expected = (outputs[:1000, 1] + right).square().mean()
    expected = expected + 7 * outputs[1000:, 0].square().mean()
    torch.testing.assert_close(task.loss(outputs, targets), expected)


def test_the_loss_is_a_mean_over_rows():
    targets = Poisson().load("train").targets
    outputs = torch.randn(1200, 2, generator=torch.Generator().manual_seed(0))
    parts = [Poisson().loss(outputs[i::3], targets[i::3]) for i in range(3)]
    torch.testing.assert_close(torch.stack(parts).mean(), Poisson().loss(outputs, targets))
