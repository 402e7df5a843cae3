"""The vision transformer, beside its formulas written out."""

import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Generator, nn

from sketchbench import Shapes
from sketchbench.autodiff import blocks, linear_layers, seeded
from sketchbench.builtin import CIFAR10, MNIST, Digits, ViT

SMALL, SHAPES = ViT(patch=2, layers=2, width=8, heads=2), Shapes((3, 4, 6), 5)
EPS = torch.finfo(torch.float64).eps


def built(recipe=SMALL, shapes=SHAPES, seed=0):
    with seeded(Generator().manual_seed(seed)):
        return recipe.build(shapes)


def images(count=3, shape=(3, 4, 6)):
    return torch.randn(count, *shape, generator=Generator().manual_seed(1))


def counted(layers, width, patches, entries, outputs, token=False):
    """A block has 12d² weights and 13d biases and gains; embedding and head have biases."""
    ends = width * (entries + 1 + patches + 2 * token) + 2 * width + outputs * (width + 1)
    return layers * (12 * width**2 + 13 * width) + ends


def explicit(network, x):
    """The forward pass written out: a patch, a head and a query at a time."""
    embedding, *middle, head = network
    size, patches = embedding.size, []
    for top in range(0, x.shape[2], size):
        for left in range(0, x.shape[3], size):
            patch = x[:, :, top : top + size, left : left + size]
            patches.append(patch.flatten(1) @ embedding.projection.weight.mT)
    y = torch.stack(patches, 1) + embedding.projection.bias
    if embedding.token is not None:
        y = torch.cat([embedding.token.expand(len(y), 1, -1), y], 1)
    y = y + embedding.positions
    for block in middle:
        q, k, v = block.attention.qkv(block.norm1(y)).chunk(3, dim=-1)
        mixed, share = torch.zeros_like(y), y.shape[-1] // block.attention.heads
        for start in range(0, y.shape[-1], share):
            part = slice(start, start + share)
            for t in range(y.shape[1]):
                scores = (k[:, :, part] * q[:, t : t + 1, part]).sum(-1) / math.sqrt(share)
                mixed[:, t, part] = (scores.softmax(-1)[:, :, None] * v[:, :, part]).sum(1)
        y = y + block.attention.projection(mixed)
        wide = block.mlp[0](block.norm2(y))
        y = y + block.mlp[2](wide * (1 + torch.erf(wide / math.sqrt(2))) / 2)
    normed = head[0].norm(y)
    return head[1](normed.mean(1) if embedding.token is None else normed[:, 0])


@pytest.mark.parametrize("pool", ["mean", "class"])
def test_it_computes_what_the_formulas_say(pool):
    network = built(ViT(patch=2, layers=2, width=8, heads=2, pool=pool)).double()
    with torch.no_grad():
        for parameter in network.parameters():  # away from the start's zeros
            parameter.add_(torch.randn_like(parameter) / 10)
        expected, found = explicit(network, images().double()), network(images().double())
    assert found.shape == (3, 5)
    # Sums of at most 32 terms in some ten layers, of which each adds roundings of its own size.
    torch.testing.assert_close(found, expected, rtol=0, atol=10 * 32 * EPS * expected.abs().max())


@pytest.mark.parametrize("pool", ["mean", "class"])
@pytest.mark.parametrize(
    ("task", "channels", "patches"), [(Digits(), 1, 4), (MNIST(), 1, 49), (CIFAR10(), 3, 64)]
)
def test_it_fits_the_tasks_of_images(task, channels, patches, pool):
    recipe = ViT(layers=1, width=16, heads=2, pool=pool)
    network = built(recipe, task.shapes)
    outputs = network(images(2, task.shapes.inputs))
    assert outputs.shape == (2, 10)
    token = pool == "class"
    expected = counted(1, 16, patches, 16 * channels, 10, token)
    assert sum(p.numel() for p in network.parameters()) == expected


def test_patches_see_one_another_both_ways():
    network, x = built().double(), images().double()
    embedding, block = network[0], network[1]
    before = block(embedding(x))
    x[:, :, 2:, 4:] += 1  # the last patch
    after = block(embedding(x))
    assert (before != after).any(-1).all()


def test_without_positions_the_order_of_patches_does_not_matter():
    network, x = built().double(), images().double()
    with torch.no_grad():
        patches = F.unfold(x, 2, stride=2)
        turned = F.fold(patches.flip(2), (4, 6), kernel_size=2, stride=2)
        assert not torch.allclose(network(turned), network(x), atol=1e-6)
        network[0].positions.zero_()
        torch.testing.assert_close(network(turned), network(x), rtol=0, atol=320 * EPS)


@pytest.mark.parametrize("pool", ["mean", "class"])
def test_gradients_reach_every_parameter(pool):
    network = built(ViT(patch=2, layers=2, width=8, heads=4, pool=pool))
    network(images()).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_weights_start_as_in_gpt2():
    network = built(ViT(layers=8, width=128, heads=4), Shapes((3, 32, 32), 10))
    for name, parameter in network.named_parameters():
        if parameter.dim() == 1:
            constant = 0.0 if name.endswith("bias") else 1.0
            assert torch.equal(parameter, torch.full_like(parameter, constant)), name
            continue
        residual = name.endswith(("attention.projection.weight", "mlp.2.weight"))
        std = 0.02 / 4 if residual else 0.02
        count = parameter.numel()
        assert abs(parameter.std().item() / std - 1) < 5 / (2 * count) ** 0.5, name


def test_embedding_blocks_and_head_are_the_blocks():
    network = built()
    assert type(network) is nn.Sequential
    assert [name for name, _ in blocks(network)] == ["0", "1", "2", "3"]


def test_projections_are_plain_linear_layers():
    each = ("attention.qkv", "attention.projection", "mlp.0", "mlp.2")
    inside = [f"{block}.{name}" for block in (1, 2) for name in each]
    assert linear_layers(built(), "all") == ("0.projection", *inside, "3.1")


def test_dropout_draws_in_training_only():
    network = built(ViT(patch=2, layers=1, width=8, heads=2, dropout=0.5))
    assert not torch.equal(network(images()), network(images()))
    network.eval()
    assert torch.equal(network(images()), network(images()))


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValidationError, match="heads 3 don't divide width 8"):
        ViT(width=8, heads=3)


@pytest.mark.parametrize("inputs", [(3, 30, 32), (3, 32, 30), (16,), ()])
def test_an_unfit_shape_is_refused_in_one_line(inputs):
    with pytest.raises(ValueError, match=r"vit: inputs of shape .* don't fit") as caught:
        ViT().build(Shapes(inputs, 10))
    assert "\n" not in str(caught.value)
