"""A perceptron in another order of its neurons is the same function."""

import pytest
import torch
from torch import nn

from sketchbench import Shapes
from sketchbench.builtin import MLP, HybridCNN
from sketchbench.builtin.models.permuted import Permuted

SHAPES = Shapes((1, 8, 8), 10)
MODEL = MLP(hidden=(12, 7))


def built(recipe, shapes=SHAPES):
    torch.manual_seed(0)
    return recipe.build(shapes)


@pytest.mark.parametrize("inputs", [False, True])
def test_it_computes_what_the_model_does(inputs):
    x = torch.randn(5, 1, 8, 8)
    permuted = built(Permuted(model=MODEL, inputs=inputs))
    torch.testing.assert_close(permuted(x), built(MODEL)(x))


def test_each_hidden_layer_is_reordered_and_the_outputs_arent():
    plain = [m for m in built(MODEL).modules() if isinstance(m, nn.Linear)]
    turned = [m for m in built(Permuted(model=MODEL)).modules() if isinstance(m, nn.Linear)]
    for a, b in zip(plain[:-1], turned[:-1], strict=True):
        assert not torch.equal(a.bias, b.bias)
        assert torch.equal(a.bias.sort().values, b.bias.sort().values)
    assert torch.equal(plain[-1].bias, turned[-1].bias)


def test_inputs_are_reordered_only_if_asked_for():
    plain = built(MODEL)[1][0].weight
    rows = built(Permuted(model=MODEL))[1][0].weight
    both = built(Permuted(model=MODEL, inputs=True))[1][1][0].weight
    assert torch.equal(rows.sum(1).sort().values, plain.sum(1).sort().values)
    assert not torch.equal(rows, both)
    assert torch.equal(rows.sort(1).values, both.sort(1).values)


def test_seed_0_is_the_natural_order_and_seeds_differ():
    weights = [built(Permuted(model=MODEL, seed=seed))[1][0].weight for seed in (0, 1, 2)]
    assert torch.equal(weights[0], built(MODEL)[1][0].weight)
    assert not torch.equal(weights[1], weights[2])


def test_building_leaves_the_global_generator_where_the_model_does():
    built(MODEL)
    expected = torch.rand(1)
    built(Permuted(model=MODEL))
    assert torch.equal(torch.rand(1), expected)


def test_what_is_no_stack_of_linear_layers_is_refused():
    with pytest.raises(ValueError, match="'hybrid-cnn' isn't a stack of linear layers"):
        Permuted(model=HybridCNN()).build(Shapes((3, 32, 32), 10))
