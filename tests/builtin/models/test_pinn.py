import pytest
import torch
from torch import nn

from sketchbench import Shapes
from sketchbench.autodiff import linear_layers
from sketchbench.builtin import PINN, Loss, Poisson, RelativeL2, Train
from sketchbench.run import Run, Wanted

MODES = ("forward", "backward")


@pytest.fixture
def built():
    """Build networks with the same weights, biases drawn, in double precision."""

    def build(derivatives, axes=2, hidden=(7, 5)):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = PINN(hidden=hidden, derivatives=derivatives).build(Shapes((axes,), 2))
            for layer in network.layers:
                nn.init.normal_(layer.bias)
        return network.double()

    return build


def points(axes=2, count=6):
    rng = torch.Generator().manual_seed(1)
    return torch.rand(count, axes, generator=rng, dtype=torch.float64)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_both_modes_agree_to_rounding_with_the_gradients_of_all_weights(built, axes):
    found = []
    for mode in MODES:
        network = built(mode, axes)
        outputs = network(points(axes))
        (outputs**2).sum().backward()
        found.append([outputs.detach(), *(p.grad for p in network.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_the_laplacian_is_that_of_finite_differences(built, mode):
    network, at, step = built(mode), points(), 1e-4
    axes = step * torch.eye(2, dtype=torch.float64)
    with torch.no_grad():
        value, laplacian = network(at).unbind(1)
        around = sum(network(at + way * axis)[:, 0] for axis in axes for way in (1, -1))
    torch.testing.assert_close(laplacian, (around - 4 * value) / step**2, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_one_hidden_neuron_is_as_in_the_book(built, mode):
    network = built(mode, hidden=(1,))
    (first, last), at = network.layers, points()
    with torch.no_grad():
        found = network(at)
        tanh = first(at).tanh()
        curved = last.weight * -2 * tanh * (1 - tanh**2) * first.weight.square().sum()
    torch.testing.assert_close(found, torch.cat([last(tanh), curved], 1).detach())


@pytest.mark.parametrize("mode", MODES)
def test_nothing_hangs_on_to_a_graph_without_gradients(built, mode):
    network, at = built(mode), points()
    with torch.no_grad():
        outputs = network(at)
    assert not outputs.requires_grad
    assert not at.requires_grad
    torch.testing.assert_close(outputs, network(at).detach(), rtol=0, atol=0)


def test_forward_mode_calls_each_layer_once_with_four_rows_a_point(built):
    network, seen = built("forward"), []
    for layer in network.layers:
        layer.register_forward_hook(lambda m, x, y: seen.append((m, x[0].shape[:-1].numel())))
    network(points())
    assert seen == [(layer, 4 * 6) for layer in network.layers]


@pytest.mark.parametrize("mode", MODES)
def test_the_layers_are_plain_and_no_tanh_is_a_module(built, mode):
    network = built(mode)
    assert linear_layers(network, "all") == ("layers.0", "layers.1", "layers.2")
    assert not any(isinstance(module, nn.Tanh) for module in network.modules())


@pytest.mark.parametrize("shapes", [Shapes((1, 8, 8), 2), Shapes((2,), 10)])
def test_other_shapes_are_refused_in_one_line(shapes):
    with pytest.raises(ValueError, match="pinn: needs points") as caught:
        PINN().build(shapes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("batching", ["full", "shuffled"])
def test_it_learns_the_equation(adam, batching):
    wanted = [Wanted(RelativeL2(), "test"), Wanted(Loss(), "train")]
    run = Run(torch.device("cpu"), 0, wanted)
    Train(
        task=Poisson(interior=200, boundary=40, grid=11),
        model=PINN(hidden=(20, 20)),
        optimizer=adam(lr=5e-3),
        epochs=200 if batching == "full" else 70,
        batch_size=80,
        batching=batching,
    ).run(run)
    errors, losses = (m.samples for m in run.measurements()[:2])
    assert errors[-1] < 0.35 < errors[0]
    assert losses[-1] < 0.2 * losses[0]
