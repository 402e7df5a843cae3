import math

import pytest
import torch
from pydantic import ValidationError
from torch import Generator, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from sketchbench import Shapes
from sketchbench.autodiff import blocks, linear_layers, seeded
from sketchbench.builtin.models.transformer import GPT

SMALL, SHAPES = GPT(layers=3, width=8, heads=2), Shapes((5,), 11)
EPS = torch.finfo(torch.float64).eps


def built(recipe=SMALL, shapes=SHAPES, seed=0):
    with seeded(Generator().manual_seed(seed)):
        return recipe.build(shapes)


def ids(rows=4, context=5):
    return torch.randint(11, (rows, context), generator=Generator().manual_seed(1))


def counted(layers, width, context, vocabulary):
    """A block has 12d² weights and 13d biases and gains; the head has no bias."""
    return layers * (12 * width**2 + 13 * width) + (2 * vocabulary + context + 2) * width


def explicit(network, tokens):
    """The forward pass written out, a head and a query at a time."""
    embedding, *middle, head = network
    x = embedding.tokens.weight[tokens] + embedding.positions.weight[: tokens.shape[1]]
    for block in middle:
        q, k, v = block.attention.qkv(block.norm1(x)).chunk(3, dim=-1)
        mixed, size = torch.zeros_like(x), x.shape[-1] // block.attention.heads
        for start in range(0, x.shape[-1], size):
            part = slice(start, start + size)
            for t in range(tokens.shape[1]):
                scores = (k[:, : t + 1, part] * q[:, t : t + 1, part]).sum(-1) / math.sqrt(size)
                weights = scores.softmax(-1)[:, :, None]
                mixed[:, t, part] = (weights * v[:, : t + 1, part]).sum(1)
        x = x + block.attention.projection(mixed)
        wide = block.mlp[0](block.norm2(x))
        x = x + block.mlp[2](wide * (1 + torch.erf(wide / math.sqrt(2))) / 2)
    return head[1](head[0](x))


def test_it_computes_what_the_formulas_say():
    network, tokens = built().double(), ids()
    with torch.no_grad():
        expected = explicit(network, tokens)
        found = network(tokens)
    assert found.shape == (4, 5, 11)
    # Sums of at most 32 terms in some ten layers, of which each adds roundings of its own size.
    bound = 10 * 32 * EPS * expected.abs().max().item()
    torch.testing.assert_close(found, expected, rtol=0, atol=bound)


def test_no_output_sees_a_later_token():
    network, tokens = built().double(), ids()
    changed = tokens.clone()
    changed[:, 3] = (changed[:, 3] + 1) % 11
    before, after = network(tokens), network(changed)
    assert torch.equal(before[:, :3], after[:, :3])
    assert (before[:, 3:] != after[:, 3:]).any(-1).all()


@pytest.mark.parametrize(
    ("layers", "width", "context", "vocabulary"), [(1, 4, 3, 5), (3, 8, 5, 11), (2, 6, 9, 2)]
)
def test_parameters_are_as_many_as_counted_by_hand(layers, width, context, vocabulary):
    network = built(GPT(layers=layers, width=width, heads=2), Shapes((context,), vocabulary))
    found = sum(p.numel() for p in network.parameters())
    assert found == counted(layers, width, context, vocabulary)


def test_billions_of_parameters_are_as_many_as_counted_on_fake_tensors():
    with FakeTensorMode():
        network = GPT(layers=50, width=2048, heads=16).build(Shapes((1024,), 32_000))
        outputs = network(torch.zeros(32, 1024, dtype=torch.int64))
    assert sum(p.numel() for p in network.parameters()) == counted(50, 2048, 1024, 32_000)
    assert outputs.shape == (32, 1024, 32_000)


def test_gradients_reach_every_parameter():
    network = built(GPT(layers=2, width=8, heads=4))
    network(ids()).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_weights_start_as_in_gpt2():
    network = built(GPT(layers=8, width=128, heads=4), Shapes((64,), 256))
    for name, parameter in network.named_parameters():
        if parameter.dim() == 1:
            constant = 0.0 if name.endswith("bias") else 1.0
            assert torch.equal(parameter, torch.full_like(parameter, constant)), name
            continue
        residual = name.endswith(("projection.weight", "mlp.2.weight"))
        std = 0.02 / 4 if residual else 0.02
        count = parameter.numel()
        assert abs(parameter.mean().item()) < 5 * std / count**0.5, name
        assert abs(parameter.std().item() / std - 1) < 5 / (2 * count) ** 0.5, name


def test_the_first_loss_is_about_that_of_a_uniform_guess():
    """Logits start small: the head's weights have variance 0.02², its inputs norm √width."""
    network = built(GPT(layers=2, width=32, heads=2))
    outputs = network(ids(64))
    targets = ids(64).roll(1, dims=0)
    loss = F.cross_entropy(outputs.flatten(0, 1), targets.flatten()).item()
    assert abs(loss - math.log(11)) < 5 * 0.02 * 32**0.5


def test_embedding_blocks_and_head_are_the_blocks():
    network = built()
    assert type(network) is nn.Sequential
    assert [name for name, _ in blocks(network)] == ["0", "1", "2", "3", "4"]


def test_projections_are_plain_linear_layers():
    each = ("attention.qkv", "attention.projection", "mlp.0", "mlp.2")
    expected = [f"{block}.{name}" for block in (1, 2, 3) for name in each]
    assert linear_layers(built(), "all") == (*expected, "4.1")


def test_dropout_draws_in_training_only():
    network = built(GPT(layers=1, width=8, heads=2, dropout=0.5))
    assert not torch.equal(network(ids()), network(ids()))
    network.eval()
    assert torch.equal(network(ids()), network(ids()))


def test_dropout_acts_on_embeddings_attention_weights_and_updates():
    recipe = GPT(layers=1, width=8, heads=2, dropout=0.25)
    network = built(recipe)
    assert [m.p for m in network.modules() if isinstance(m, nn.Dropout)] == [0.25, 0.25]
    attention = network[1].attention
    x = torch.randn(2, 5, 8, generator=Generator().manual_seed(2))
    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    assert torch.equal(attention(x), attention(x))


def test_without_dropout_nothing_is_drawn():
    network, before = built(), torch.get_rng_state()
    network(ids()).sum().backward()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("heads", [3, 16])
def test_heads_that_do_not_divide_the_width_are_refused(heads):
    with pytest.raises(ValidationError, match=f"heads {heads} don't divide width 8") as caught:
        GPT(width=8, heads=heads)
    assert len(caught.value.errors()) == 1


@pytest.mark.parametrize("inputs", [(3, 32, 32), ()])
def test_an_unfit_shape_is_refused_in_one_line(inputs):
    with pytest.raises(ValueError, match=r"gpt: inputs of shape .* don't fit") as caught:
        SMALL.build(Shapes(inputs, 10))
    assert "\n" not in str(caught.value)
