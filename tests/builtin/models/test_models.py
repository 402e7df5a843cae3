import pytest
import torch
from torch import nn

from sketchbench import Shapes
from sketchbench.autodiff import blocks
from sketchbench.builtin import MLP, HybridCNN, ResNet20

CIFAR, MNIST_, DIGITS = (Shapes(shape, 10) for shape in ((3, 32, 32), (1, 28, 28), (1, 8, 8)))
HYBRID = 3 * 9 * 32 + 32 + 32 * 9 * 64 + 64 + (4096 + 1) * 512 + (512 + 1) * 512 + 513 * 10


@pytest.mark.parametrize(
    ("model", "shapes", "count"),
    [
        (MLP(), MNIST_, 669_706),
        (MLP(hidden=()), DIGITS, 65 * 10),
        (MLP(hidden=(7, 5), activation="gelu"), Shapes((11,), 3), 12 * 7 + 8 * 5 + 6 * 3),
        (HybridCNN(), CIFAR, HYBRID),
        (ResNet20(), CIFAR, 269_722),
    ],
)
def test_parameters_are_as_many_as_counted_by_hand(model, shapes, count):
    assert sum(p.numel() for p in model.build(shapes).parameters()) == count


@pytest.mark.parametrize("shapes", [CIFAR, MNIST_, DIGITS])
@pytest.mark.parametrize("model", [MLP(activation="tanh"), HybridCNN(), ResNet20()])
def test_outputs_fit_and_gradients_reach_every_parameter(model, shapes):
    network = model.build(shapes)
    outputs = network(torch.randn(4, *shapes.inputs))
    assert outputs.shape == (4, 10)
    outputs.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("model", "count"), [(MLP(), 3), (HybridCNN(), 5), (ResNet20(), 11)])
def test_top_level_children_are_the_blocks(model, count):
    assert len(blocks(model.build(CIFAR))) == count


@pytest.mark.parametrize(
    ("model", "inputs"), [(HybridCNN(), (3, 30, 32)), (HybridCNN(), (64,)), (ResNet20(), (3, 32))]
)
def test_an_unfit_shape_is_refused_in_one_line(model, inputs):
    with pytest.raises(ValueError, match=rf"{model.name}: inputs of shape .* don't fit") as caught:
        model.build(Shapes(inputs, 10))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "layer"), [("relu", nn.ReLU), ("silu", nn.SiLU)])
def test_the_activation_follows_each_hidden_layer_only(name, layer):
    network = MLP(hidden=(5, 4), activation=name).build(DIGITS)
    assert [type(m) for m in network.modules()].count(layer) == 2
    assert isinstance(network[-1], nn.Linear)


def test_the_weights_come_from_the_global_generator_alone():
    built = []
    for _ in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            built.append(ResNet20().build(CIFAR).state_dict())
    assert all(torch.equal(built[0][key], built[1][key]) for key in built[0])


def test_a_block_that_widens_keeps_every_second_pixel_on_its_shortcut():
    network = ResNet20().build(CIFAR).eval()
    block = network[4]  # the first block of the second stage
    for parameter in block.residual.parameters():
        nn.init.zeros_(parameter)
    images = torch.rand(2, 16, 8, 8)
    found = block(images)
    assert torch.equal(found[:, :16], images[:, :, ::2, ::2])
    assert not found[:, 16:].any()
